//! The spans that unit tests see: all that the runtime opens through `tracing` at `debug`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

thread_local! {
    /// The spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// All spans at `debug` that were opened since this was made, in their order.
#[derive(Clone, Default)]
pub(crate) struct SaidSpans(Arc<Mutex<Vec<SaidSpan>>>);

/// A span. Its id is its place among all, from 1 on.
#[derive(Clone, Debug)]
pub(crate) struct SaidSpan {
    pub(crate) name: &'static str,
    pub(crate) fields: BTreeMap<&'static str, String>,
    /// The id of the span that it was opened in.
    pub(crate) within: Option<u64>,
}

impl SaidSpans {
    pub(crate) fn all(&self) -> Vec<SaidSpan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first span of this name whose field has this value, and those that were opened in it.
    pub(crate) fn find(&self, name: &str, field: &str, value: &str) -> Option<(SaidSpan, Vec<SaidSpan>)> {
        let all = self.all();
        let is_it =
            |span: &SaidSpan| span.name == name && span.fields.get(field).is_some_and(|it| it == value);
        let at = all.iter().position(is_it)?;
        let inside = all.iter().filter(|span| span.within == Some(at as u64 + 1)).cloned().collect();
        Some((all[at].clone(), inside))
    }
}

impl Visit for SaidSpan {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for SaidSpans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && *metadata.level() == Level::DEBUG
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let within = ENTERED.with_borrow(|entered| entered.last().copied());
        let mut span = SaidSpan { name: attributes.metadata().name(), fields: BTreeMap::new(), within };
        attributes.record(&mut span);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(span);
        Id::from_u64(all.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(id.into_u64()));
    }

    fn exit(&self, _: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.pop());
    }
}

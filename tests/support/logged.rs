//! What the runtime says through `tracing`, with its level.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::{Arc, Mutex};

/// Everything at `info` and above that was said since this was made.
#[derive(Clone, Default)]
pub struct Logged(Arc<Mutex<Vec<(tracing::Level, String)>>>);

impl Logged {
    /// What was said that has these words.
    pub fn with(&self, words: &str) -> Vec<(tracing::Level, String)> {
        let all = self.0.lock().expect("nobody panics");
        all.iter().filter(|(_, text)| text.contains(words)).cloned().collect()
    }
}

impl tracing::Subscriber for Logged {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 += &format!("{}={value:?} ", field.name());
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().expect("nobody panics").push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

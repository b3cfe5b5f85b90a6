//! The gates of a runtime: opened by its user, and closed when it stops.

use std::sync::PoisonError;

use freehold_shard::Actor;

use super::Runtime;
use crate::gate::config::{GateConfig, GateStartError};
use crate::gate::{Gate, Verifier, start};

impl<A: Actor> Runtime<A> {
    /// Opens a gate: a way to the objects past a verifier that works on threads of its own, for
    /// signatures, proofs and all that takes longer than a shard may be held up. `make` is called
    /// on each of these threads, and again after a panic of the verifier.
    ///
    /// The gate is open until the runtime stops. [`Verifier`] has an example.
    ///
    /// # Errors
    /// See [`GateStartError`]; whatever had been started is stopped again.
    pub fn gate<V: Verifier<A>>(
        &self,
        config: GateConfig,
        make: impl Fn() -> V + Send + Sync + 'static,
    ) -> Result<Gate<A, V>, GateStartError> {
        let (gate, threads) = start::open(&self.shared, config, make)?;
        self.gates.lock().unwrap_or_else(PoisonError::into_inner).push(threads);
        Ok(gate)
    }
}

//! How do recurrent layers read their state? (`build_rs`)

use super::{Build, Id};
use crate::engine::llamacpp::graph::tensor::Kind;

/// Which states a batch continues (`llm_graph_input_rs`).
#[derive(Clone, Copy, Debug)]
pub struct States {
    /// States of the batch's sequences.
    pub main: Id,
    /// States that are only moved.
    pub extra: Id,
    /// All states.
    pub count: u64,
}

impl Build<'_> {
    /// Which states the batch continues (`build_rs_inp`). A reservation assumes all cells in use.
    pub fn inp_rs(&mut self) -> States {
        let (count, seqs) = (self.cx.sequences.max(1), self.batch.seqs);
        let all = self.g.input(Kind::I32, [count, 1, 1, 1]);
        let main = self.g.view_1d(all, seqs, 0);
        let rest = count.saturating_sub(seqs);
        let extra = self.g.view_1d(all, rest, seqs.saturating_mul(4));
        States { main, extra, count }
    }

    /// A layer's stored state: the rolling one (`r`), or the recurrent one (`s`).
    pub fn state(&mut self, il: usize, rolling: bool) -> Id {
        let slot = usize::from(!rolling);
        if let Some(id) = self.states.get(il).and_then(|pair| pair[slot]) {
            return id;
        }
        let hparams = self.model.hparams;
        let size = if rolling { hparams.state_r() } else { hparams.state_s() };
        let rows = self.cx.sequences.max(1).saturating_mul(self.cx.snapshots.saturating_add(1));
        let store = self.state_store(il);
        let id = self.g.stored(Kind::F32, [size, rows, 1, 1], store, false);
        if let Some(pair) = self.states.get_mut(il) {
            pair[slot] = Some(id);
        }
        id
    }

    /// States of the batch's sequences, with the cleared and moved ones written back (`build_rs`). `gather` reads rows
    /// where the architecture does so in its own way.
    pub fn rs(&mut self, states: &States, stored: Id, size: u64, gather: impl FnOnce(&mut Self, Id, Id) -> Id) -> Id {
        let rows = self.g.get(stored).elements() / size.max(1);
        let table = self.g.reshape_2d(stored, size, rows);
        let cleared = self.g.view_1d(table, size, 0);
        let cleared = self.g.scale_in_place(cleared);
        self.g.expand(cleared);
        let own = gather(self, table, states.main);
        self.g.expand(own);
        let moved = self.g.get_rows(table, states.extra);
        let seqs = self.batch.seqs;
        let nb1 = self.g.nb(stored)[1];
        let rest = states.count.saturating_sub(seqs);
        let target = self.g.view_2d(stored, [size, rest], nb1, seqs.saturating_mul(nb1));
        let copied = self.g.cpy(moved, target);
        self.g.expand(copied);
        own
    }
}

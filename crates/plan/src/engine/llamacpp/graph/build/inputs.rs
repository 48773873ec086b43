//! What does the host hand to a graph? Tokens, positions, output rows.

use super::{Build, Id};
use crate::engine::llamacpp::graph::tensor::Kind;

impl Build<'_> {
    /// Embeddings of the tokens, or embeddings as such (`build_inp_embd`): both are in the graph, the tokens' is used.
    /// `scaled` where the architecture reads a scale of the embeddings from the file.
    pub fn inp_embd(&mut self, scaled: bool) -> Id {
        let (tokens, hparams) = (self.batch.tokens, self.model.hparams);
        let (embd, wide) = (hparams.embd, hparams.embd_inp.max(hparams.embd));
        let table = self.global("token_embd.weight");
        let ids = self.g.input(Kind::I32, [tokens, 1, 1, 1]);
        let mut cur = self.g.get_rows(table, ids);
        if wide != embd {
            cur = self.g.pad(cur, [wide - embd, 0, 0, 0]);
        }
        self.g.expand(cur);
        if self.cx.rules.embedding_input {
            let given = self.g.input(Kind::F32, [wide, tokens, 1, 1]);
            self.g.order(given);
        }
        if wide != embd {
            let nb1 = self.g.nb(cur)[1];
            cur = self.g.view_2d(cur, [embd, tokens], nb1, 0);
        }
        if scaled && self.has_scale("embedding_scale") {
            if !self.g.get(cur).is_contiguous() {
                cur = self.g.cont(cur);
            }
            cur = self.g.scale(cur);
        }
        self.g.expand(cur);
        cur
    }

    /// Positions; architectures with sectioned rotation have four per token.
    pub fn inp_pos(&mut self, per_token: u64) -> Id {
        let count = self.batch.tokens.saturating_mul(per_token);
        self.g.input(Kind::I32, [count, 1, 1, 1])
    }

    /// Rows wanted of the last layer (`build_inp_out_ids`).
    pub fn inp_out_ids(&mut self) -> Id {
        let outputs = self.batch.outputs;
        self.g.input(Kind::I32, [outputs, 1, 1, 1])
    }

    /// A scale per token (`build_inp_attn_scale`).
    pub fn inp_attn_scale(&mut self) -> Id {
        let tokens = self.batch.tokens;
        self.g.input(Kind::F32, [1, 1, tokens, 1])
    }
}

//! From the bytes of tokens to text that can be shown.
//!
//! Two things wait here: bytes of a character that is not complete, and text that may become a stop
//! text. Tokens wait with their text.

use super::Piece;

/// Collects tokens until their text is complete.
#[derive(Debug)]
pub(super) struct Assembler {
    stop: Vec<String>,
    tokens: Vec<u32>,
    /// Decoded, not yet given out.
    text: String,
    /// The beginning of a character.
    bytes: Vec<u8>,
}

impl Assembler {
    pub(super) fn new(mut stop: Vec<String>) -> Self {
        stop.retain(|text| !text.is_empty());
        Self {
            stop,
            tokens: Vec::new(),
            text: String::new(),
            bytes: Vec::new(),
        }
    }

    /// Adds a token. True when a stop text is complete: what comes from it on is cut off, and only
    /// [`Assembler::flush`] remains to be called.
    pub(super) fn push(&mut self, token: u32, bytes: &[u8]) -> bool {
        self.tokens.push(token);
        self.bytes.extend_from_slice(bytes);
        self.decode();
        let cut = self
            .stop
            .iter()
            .filter_map(|stop| self.text.find(stop))
            .min();
        if let Some(cut) = cut {
            self.text.truncate(cut);
            self.bytes.clear();
        }
        cut.is_some()
    }

    /// Moves what is complete from bytes to text. Bytes that never become a character turn into
    /// U+FFFD.
    fn decode(&mut self) {
        let mut done = 0_usize;
        for chunk in self.bytes.utf8_chunks() {
            self.text.push_str(chunk.valid());
            done = done.saturating_add(chunk.valid().len());
            let bad = chunk.invalid();
            if bad.is_empty() {
                break;
            }
            let at_end = done.saturating_add(bad.len()) == self.bytes.len();
            let unfinished = std::str::from_utf8(bad).is_err_and(|e| e.error_len().is_none());
            if at_end && unfinished {
                break;
            }
            self.text.push(char::REPLACEMENT_CHARACTER);
            done = done.saturating_add(bad.len());
        }
        self.bytes.drain(..done);
    }

    /// What is complete, when nothing has to wait.
    pub(super) fn take(&mut self) -> Option<Piece> {
        if self.tokens.is_empty() || !self.bytes.is_empty() || self.may_stop() {
            return None;
        }
        Some(Piece {
            tokens: std::mem::take(&mut self.tokens),
            text: std::mem::take(&mut self.text),
        })
    }

    /// Everything, complete or not.
    pub(super) fn flush(&mut self) -> Option<Piece> {
        if !self.bytes.is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
            self.bytes.clear();
        }
        let piece = Piece {
            tokens: std::mem::take(&mut self.tokens),
            text: std::mem::take(&mut self.text),
        };
        (piece != Piece::default()).then_some(piece)
    }

    /// True when the text ends with the beginning of a stop text.
    fn may_stop(&self) -> bool {
        self.stop.iter().any(|stop| {
            stop.char_indices()
                .skip(1)
                .filter_map(|(end, _)| stop.get(..end))
                .any(|start| self.text.ends_with(start))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(tokens: &[u32], text: &str) -> Piece {
        Piece {
            tokens: tokens.to_vec(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_character_split_over_tokens_waits_for_its_end() {
        let mut text = Assembler::new(Vec::new());
        for (token, byte) in [(1, 0xe2), (2, 0x82)] {
            assert!(!text.push(token, &[byte]));
            assert_eq!(text.take(), None);
        }
        assert!(!text.push(3, &[0xac]));
        assert_eq!(text.take(), Some(piece(&[1, 2, 3], "\u{20ac}")));
    }

    #[test]
    fn bytes_that_are_no_text_become_replacement_characters() {
        let mut text = Assembler::new(Vec::new());
        assert!(!text.push(1, b"a\xffb\xe2"));
        assert_eq!(text.take(), None);
        assert!(!text.push(2, b"c"));
        assert_eq!(text.take(), Some(piece(&[1, 2], "a\u{fffd}b\u{fffd}c")));
        assert!(!text.push(3, b"\xf0\x9f"));
        assert_eq!(text.flush(), Some(piece(&[3], "\u{fffd}")));
        assert_eq!(text.flush(), None);
    }

    #[test]
    fn what_may_become_a_stop_text_waits() {
        let mut text = Assembler::new(vec!["END".to_owned(), String::new()]);
        assert!(!text.push(1, b"one E"));
        assert_eq!(text.take(), None);
        assert!(!text.push(2, b"N"));
        assert_eq!(text.take(), None);
        assert!(!text.push(3, b"E"));
        assert_eq!(text.take(), None);
        assert!(text.push(4, b"ND after"));
        assert_eq!(text.flush(), Some(piece(&[1, 2, 3, 4], "one EN")));
    }
}

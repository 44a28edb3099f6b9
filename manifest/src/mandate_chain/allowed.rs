//! What a grant allows: actions from a closed list, and short lists of models and payees.

use std::fmt;

use crate::bytes::{DecodeError, Reader, Writer};

/// Longest list of models or payees in a grant; chosen.
pub const LIST_MAX: usize = 8;

/// One kind of thing that TRM is spent on. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// A chat completion. Bit 1.
    Chat,
}

impl Action {
    /// The one bit that stands for it.
    pub const fn bit(self) -> u32 {
        match self {
            Self::Chat => 1,
        }
    }

    /// The action of a bit; `None` when this build knows none.
    pub const fn from_bit(bit: u32) -> Option<Self> {
        match bit {
            1 => Some(Self::Chat),
            _ => None,
        }
    }
}

/// A set of actions, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actions(u32);

impl Actions {
    /// Chat completions, the only action there is.
    pub const CHAT: Self = Self(Action::Chat.bit());

    /// Every bit that is an action.
    const KNOWN: u32 = Action::Chat.bit();

    /// The set of these bits; `None` for no bit and for one that is no action here.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits == 0 || bits & !Self::KNOWN != 0 {
            None
        } else {
            Some(Self(bits))
        }
    }

    /// The bits.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// True when `action` is in the set.
    pub const fn contains(self, action: Action) -> bool {
        self.0 & action.bit() != 0
    }

    /// True when `other` has every action that is here.
    pub const fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Anything, or one to [`LIST_MAX`] things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed<T>(Vec<T>);

/// Why things are not a list that a grant may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a list of what is allowed names 1 to {LIST_MAX} things, not {count}")]
pub struct ListError {
    count: usize,
}

impl<T: Copy + Ord> Allowed<T> {
    /// No restriction.
    pub const ANY: Self = Self(Vec::new());

    /// These and nothing else; order and repeats do not matter.
    ///
    /// # Errors
    ///
    /// [`ListError`] for nothing at all, which would read as anything, and above [`LIST_MAX`].
    pub fn only(things: impl IntoIterator<Item = T>) -> Result<Self, ListError> {
        let mut things: Vec<T> = things.into_iter().collect();
        things.sort_unstable();
        things.dedup();
        let count = things.len();
        if (1..=LIST_MAX).contains(&count) {
            Ok(Self(things))
        } else {
            Err(ListError { count })
        }
    }

    /// True when there is no restriction.
    pub const fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// The things allowed, sorted; empty when there is no restriction.
    pub fn list(&self) -> &[T] {
        &self.0
    }

    /// True when `thing` is allowed.
    pub fn allows(&self, thing: &T) -> bool {
        self.is_any() || self.0.contains(thing)
    }

    /// True when `other` allows whatever is allowed here.
    pub fn is_within(&self, other: &Self) -> bool {
        other.is_any() || (!self.is_any() && self.0.iter().all(|thing| other.0.contains(thing)))
    }
}

impl<T: fmt::Display> fmt::Display for Allowed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("any");
        }
        for (at, thing) in self.0.iter().enumerate() {
            write!(f, "{}{thing:.10}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl<T: Copy + Ord> Allowed<T> {
    /// A `u32` count, 0 for anything, then the things in ascending order.
    pub(super) fn encode(&self, out: &mut Writer, bytes: impl Fn(&T) -> &[u8; 32]) {
        out.u32(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        for thing in &self.0 {
            out.raw(bytes(thing));
        }
    }

    /// Refuses a list that is too long, out of order, or names something twice.
    pub(super) fn decode(
        from: &mut Reader<'_>,
        field: &'static str,
        of: impl Fn([u8; 32]) -> T,
    ) -> Result<Self, DecodeError> {
        let count = usize::try_from(from.u32(field)?).unwrap_or(usize::MAX);
        if count > LIST_MAX {
            return Err(DecodeError::Value(field));
        }
        let mut things = Vec::new();
        for _ in 0..count {
            let thing = of(from.raw(field)?);
            if things.last().is_some_and(|last| *last >= thing) {
                return Err(DecodeError::Value(field));
            }
            things.push(thing);
        }
        Ok(Self(things))
    }
}

//! The bytes of a frame and its limits, and nothing else. Pure: bytes in, frame out.
//!
//! `u32` length of the rest, `u8` version, `u16` kind, postcard body; integers little-endian. The
//! same frame always makes the same bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::proto::message::{
    AskQuote, Begun, Certified, Certify, Chunk, Countersign, Drawn, Frame, Join, Joined, Offers,
    Propose, Quoted, Refuse, Repay, ReserveUnits, ReturnUnits, SignedBytes, Start, UnderMandate,
    UnitsReturned,
};

/// Version of the frame layout.
pub const VERSION: u8 = 1;

/// Bytes before version and kind: the length.
pub const LENGTH_BYTES: usize = 4;

/// Bytes of version and kind, which the length counts.
pub const HEAD_BYTES: usize = 3;

/// Most bytes of one frame, length included: 1 MiB; chosen so that the longest prompt fits and a
/// hostile peer costs no more memory per stream than that.
pub const FRAME_MAX: usize = 1 << 20;

/// Most bytes of a line for people in `Refuse` and `Joined`; longer ones are cut when sent.
pub const NOTE_MAX: usize = 300;

/// Most bytes of one signed document or receipt; the longest known, a receipt, is under 1 KiB.
pub const DOCUMENT_MAX: usize = 4_096;

/// Most bytes of a travelling mandate: the limit of its layout.
pub const MANDATE_MAX: usize = tirami_manifest::mandate_chain::CHAIN_BYTES_MAX;

/// Most runs of units that go back at once; chosen, so that they stay within a frame.
pub const RETURNS_MAX: usize = 1_000;

/// Most entries of a chain shown at once; chosen, so that the longest stay within a frame.
pub const ENTRIES_MAX: usize = 250;

/// Most credits named at once; chosen.
pub const CREDITS_MAX: usize = 250;

/// Most bytes of a certificate: 64 votes.
pub const CERTIFICATE_MAX: usize = 8_192;

/// Most offers of one node; chosen.
pub const OFFERS_MAX: usize = 64;

/// Most bytes of a model's name in an offer; chosen.
pub const NAME_MAX: usize = 100;

/// Most messages in one prompt; chosen.
pub const MESSAGES_MAX: usize = 1_024;

/// Most bytes of all messages of one prompt together: 768 KiB; chosen to leave room in a frame.
pub const PROMPT_MAX: usize = 768 << 10;

/// Most stop texts; chosen.
pub const STOPS_MAX: usize = 16;

/// Most bytes of one stop text; chosen.
pub const STOP_MAX: usize = 256;

/// Most tokens in one chunk; chosen, far above the 32 of a chunk that is paid by voucher.
pub const CHUNK_TOKENS_MAX: usize = 1_024;

/// Most bytes of text in one chunk: 64 KiB; chosen, 64 bytes for each token.
pub const CHUNK_TEXT_MAX: usize = 64 << 10;

/// Why bytes are not a frame, or a frame cannot be bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// Longer than [`FRAME_MAX`], or it says so.
    #[error("a frame of {len} bytes is above the limit of {FRAME_MAX}")]
    Oversize {
        /// Bytes of the frame, length included.
        len: u64,
    },
    /// Fewer bytes than the layout needs.
    #[error("the bytes end in the middle of a frame")]
    Truncated,
    /// Bytes after the end of the body.
    #[error("{0} bytes too many in a frame")]
    Trailing(usize),
    /// A version this build does not speak.
    #[error(
        "frame version {0} is not known here, which speaks {VERSION}; one side needs an update"
    )]
    Version(u8),
    /// A kind this build does not know.
    #[error("frame kind {0} is not known here; the peer may be newer")]
    Kind(u16),
    /// The body is not what its kind says.
    #[error("the body of a frame of kind {0} is malformed")]
    Body(u16),
    /// A field above its limit.
    #[error("{field} has {len}, the limit is {max}")]
    Limit {
        /// Which field, with its unit.
        field: &'static str,
        /// What it has.
        len: usize,
        /// What it may have.
        max: usize,
    },
}

/// Makes the bytes of a frame, length first.
///
/// # Errors
///
/// [`CodecError::Limit`] when a field is above its limit, [`CodecError::Oversize`] when the whole is.
pub fn encode(frame: &Frame) -> Result<Vec<u8>, CodecError> {
    let plain;
    let frame = if has_lines(frame) {
        plain = with_plain_lines(frame.clone());
        &plain
    } else {
        frame
    };
    check(frame)?;
    let body = match frame {
        Frame::Refuse(body) => bytes_of(frame, body),
        Frame::Ping(number) | Frame::Pong(number) => bytes_of(frame, number),
        Frame::Join(body) => bytes_of(frame, body),
        Frame::Joined(body) => bytes_of(frame, body),
        Frame::Repay(body) => bytes_of(frame, body),
        Frame::Repaid(body) => bytes_of(frame, body),
        Frame::Offers(body) => bytes_of(frame, body),
        Frame::AskQuote(body) => bytes_of(frame, body),
        Frame::Quoted(body) => bytes_of(frame, body),
        Frame::Start(body) => bytes_of(frame, body),
        Frame::Chunk(body) => bytes_of(frame, body),
        Frame::Voucher(body) | Frame::ReleaseUnits(body) => bytes_of(frame, body),
        Frame::Propose(body) => bytes_of(frame, body),
        Frame::Begun(body) => bytes_of(frame, body),
        Frame::Countersign(body) | Frame::Claim(body) => bytes_of(frame, body),
        Frame::Settled(body) => bytes_of(frame, body),
        Frame::ReserveUnits(body) => bytes_of(frame, body),
        Frame::Drawn(body) => bytes_of(frame, body),
        Frame::ReturnUnits(body) => bytes_of(frame, body),
        Frame::UnitsReturned(body) => bytes_of(frame, body),
        Frame::Certify(body) => bytes_of(frame, body),
        Frame::Certified(body) => bytes_of(frame, body),
        Frame::ListOffers | Frame::Cancel | Frame::UnitsReserved | Frame::UnitsReleased => {
            Ok(Vec::new())
        }
    }?;
    let rest = HEAD_BYTES + body.len();
    let len = u32::try_from(rest).map_err(|_| oversize(rest))?;
    if LENGTH_BYTES + rest > FRAME_MAX {
        return Err(oversize(LENGTH_BYTES + rest));
    }
    let mut out = Vec::with_capacity(LENGTH_BYTES + rest);
    out.extend_from_slice(&len.to_le_bytes());
    out.push(VERSION);
    out.extend_from_slice(&frame.kind().to_le_bytes());
    out.extend_from_slice(&body);
    Ok(out)
}

/// Reads one whole frame, length first.
///
/// # Errors
///
/// Any [`CodecError`]; nothing is defaulted, and no byte may be left over.
pub fn decode(bytes: &[u8]) -> Result<Frame, CodecError> {
    let want = frame_len(bytes)?.ok_or(CodecError::Truncated)?;
    match bytes.len().checked_sub(want) {
        None => return Err(CodecError::Truncated),
        Some(0) => {}
        Some(more) => return Err(CodecError::Trailing(more)),
    }
    let (version, rest) = bytes
        .get(LENGTH_BYTES..)
        .and_then(<[u8]>::split_first)
        .ok_or(CodecError::Truncated)?;
    if *version != VERSION {
        return Err(CodecError::Version(*version));
    }
    let (kind, body) = rest.split_first_chunk().ok_or(CodecError::Truncated)?;
    let frame = body_of(u16::from_le_bytes(*kind), body)?;
    check(&frame)?;
    Ok(with_plain_lines(frame))
}

/// How many bytes the frame that starts here has, length included; `None` while fewer than
/// [`LENGTH_BYTES`] are there. A reader calls this before it makes room.
///
/// # Errors
///
/// [`CodecError::Oversize`] above [`FRAME_MAX`], [`CodecError::Truncated`] when it says that it has
/// no room for version and kind.
pub fn frame_len(bytes: &[u8]) -> Result<Option<usize>, CodecError> {
    let Some((len, _)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let rest = u64::from(u32::from_le_bytes(*len));
    let whole = rest + 4;
    match usize::try_from(whole) {
        Ok(whole) if whole <= FRAME_MAX => {
            if whole < LENGTH_BYTES + HEAD_BYTES {
                Err(CodecError::Truncated)
            } else {
                Ok(Some(whole))
            }
        }
        _ => Err(CodecError::Oversize { len: whole }),
    }
}

fn oversize(len: usize) -> CodecError {
    CodecError::Oversize {
        len: u64::try_from(len).unwrap_or(u64::MAX),
    }
}

fn bytes_of(frame: &Frame, body: &impl Serialize) -> Result<Vec<u8>, CodecError> {
    postcard::to_stdvec(body).map_err(|_| CodecError::Body(frame.kind()))
}

fn body_of(kind: u16, body: &[u8]) -> Result<Frame, CodecError> {
    Ok(match kind {
        1 => Frame::Refuse(read::<Refuse>(kind, body)?),
        2 => Frame::Ping(read(kind, body)?),
        3 => Frame::Pong(read(kind, body)?),
        16 => Frame::Join(read::<Join>(kind, body)?),
        17 => Frame::Joined(read::<Joined>(kind, body)?),
        18 => Frame::Repay(read::<Repay>(kind, body)?),
        19 => Frame::Repaid(read(kind, body)?),
        32 => {
            read::<()>(kind, body)?;
            Frame::ListOffers
        }
        33 => Frame::Offers(read::<Offers>(kind, body)?),
        57 => Frame::AskQuote(read::<AskQuote>(kind, body)?),
        49 => Frame::Quoted(read::<Quoted>(kind, body)?),
        58 => Frame::Start(read::<Start>(kind, body)?),
        51 => Frame::Chunk(read::<Chunk>(kind, body)?),
        52 => Frame::Voucher(read::<SignedBytes>(kind, body)?),
        53 => Frame::Propose(read::<Propose>(kind, body)?),
        54 => Frame::Countersign(read::<Countersign>(kind, body)?),
        55 => Frame::Settled(read(kind, body)?),
        56 => {
            read::<()>(kind, body)?;
            Frame::Cancel
        }
        59 => Frame::Begun(read::<Begun>(kind, body)?),
        60 => Frame::Claim(read::<Countersign>(kind, body)?),
        64 => Frame::ReserveUnits(read::<ReserveUnits>(kind, body)?),
        65 => {
            read::<()>(kind, body)?;
            Frame::UnitsReserved
        }
        66 => Frame::ReleaseUnits(read::<SignedBytes>(kind, body)?),
        67 => {
            read::<()>(kind, body)?;
            Frame::UnitsReleased
        }
        68 => Frame::Drawn(read::<Drawn>(kind, body)?),
        69 => Frame::ReturnUnits(read::<ReturnUnits>(kind, body)?),
        70 => Frame::UnitsReturned(read::<UnitsReturned>(kind, body)?),
        80 => Frame::Certify(read::<Certify>(kind, body)?),
        81 => Frame::Certified(read::<Certified>(kind, body)?),
        _ => return Err(CodecError::Kind(kind)),
    })
}

fn read<T: DeserializeOwned>(kind: u16, body: &[u8]) -> Result<T, CodecError> {
    let (value, rest) = postcard::take_from_bytes(body).map_err(|error| match error {
        postcard::Error::DeserializeUnexpectedEnd => CodecError::Truncated,
        _ => CodecError::Body(kind),
    })?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(CodecError::Trailing(rest.len()))
    }
}

/// The same limits hold for what is sent and for what is received.
fn check(frame: &Frame) -> Result<(), CodecError> {
    let document = |bytes: &[u8]| at_most("a document, in bytes,", bytes.len(), DOCUMENT_MAX);
    match frame {
        Frame::Refuse(body) => at_most("the message, in bytes,", body.message.len(), NOTE_MAX),
        Frame::Join(body) => document(&body.invitation),
        Frame::Joined(body) => {
            at_most("the note, in bytes,", body.note.len(), NOTE_MAX)?;
            body.grant.as_deref().map_or(Ok(()), document)
        }
        Frame::Repay(body) => document(&body.repayment),
        Frame::Offers(body) => {
            at_most("the list of offers", body.offers.len(), OFFERS_MAX)?;
            body.offers.iter().try_for_each(|offer| {
                at_most("a model's name, in bytes,", offer.name.len(), NAME_MAX)
            })
        }
        Frame::AskQuote(body) => {
            at_most("the prompt, in messages,", body.shape.0.len(), MESSAGES_MAX)
        }
        Frame::Quoted(body) => document(&body.quote),
        Frame::Start(body) => check_start(body),
        Frame::Chunk(body) => {
            at_most("a chunk, in tokens,", body.tokens.len(), CHUNK_TOKENS_MAX)?;
            at_most(
                "a chunk, in bytes of text,",
                body.text.len(),
                CHUNK_TEXT_MAX,
            )
        }
        Frame::Voucher(body) | Frame::ReleaseUnits(body) => document(&body.0),
        Frame::Propose(body) => document(&body.agreement),
        Frame::Countersign(body) | Frame::Claim(body) => document(&body.receipt),
        Frame::ReserveUnits(body) => check_under(&body.under),
        Frame::Drawn(body) => {
            document(&body.receipt)?;
            check_under(&body.under)
        }
        Frame::ReturnUnits(body) => {
            at_most("a mandate, in bytes,", body.chain.len(), MANDATE_MAX)?;
            document(&body.back)
        }
        Frame::UnitsReturned(body) => {
            at_most("the list of returns", body.backs.len(), RETURNS_MAX)?;
            body.backs.iter().try_for_each(|back| document(back))
        }
        Frame::Certify(body) => {
            at_most("the list of entries", body.entries.len(), ENTRIES_MAX)?;
            at_most("the list of receipts", body.waiting.len(), CREDITS_MAX)?;
            body.entries.iter().try_for_each(|entry| document(entry))
        }
        Frame::Certified(body) => {
            at_most("the list of credits", body.credits.len(), CREDITS_MAX)?;
            at_most(
                "a certificate, in bytes,",
                body.certificate.as_ref().map_or(0, Vec::len),
                CERTIFICATE_MAX,
            )
        }
        Frame::Ping(_)
        | Frame::Pong(_)
        | Frame::ListOffers
        | Frame::Repaid(_)
        | Frame::Settled(_)
        | Frame::Cancel
        | Frame::Begun(_)
        | Frame::UnitsReserved
        | Frame::UnitsReleased => Ok(()),
    }
}

fn check_under(body: &UnderMandate) -> Result<(), CodecError> {
    at_most("a mandate, in bytes,", body.chain.len(), MANDATE_MAX)?;
    at_most("a document, in bytes,", body.spend.len(), DOCUMENT_MAX)
}

fn check_start(body: &Start) -> Result<(), CodecError> {
    at_most(
        "the prompt, in messages,",
        body.messages.len(),
        MESSAGES_MAX,
    )?;
    let prompt = body
        .messages
        .iter()
        .fold(0_usize, |sum, m| sum.saturating_add(m.content.len()));
    at_most("the prompt, in bytes,", prompt, PROMPT_MAX)?;
    body.under.as_ref().map_or(Ok(()), check_under)?;
    at_most("the list of stop texts", body.stop.len(), STOPS_MAX)?;
    body.stop
        .iter()
        .try_for_each(|stop| at_most("a stop text, in bytes,", stop.len(), STOP_MAX))
}

fn at_most(field: &'static str, len: usize, max: usize) -> Result<(), CodecError> {
    if len <= max {
        Ok(())
    } else {
        Err(CodecError::Limit { field, len, max })
    }
}

/// Makes the lines that people will read plain: they end up on terminals and in a model's context,
/// so they carry no control characters; and one that is too long is cut, since a refusal must
/// always be sayable.
fn with_plain_lines(mut frame: Frame) -> Frame {
    match &mut frame {
        Frame::Refuse(body) => body.message = plain(&body.message, NOTE_MAX),
        Frame::Joined(body) => body.note = plain(&body.note, NOTE_MAX),
        Frame::Offers(body) => {
            for offer in &mut body.offers {
                offer.name = plain(&offer.name, NAME_MAX);
            }
        }
        _ => {}
    }
    frame
}

const fn has_lines(frame: &Frame) -> bool {
    matches!(
        frame,
        Frame::Refuse(_) | Frame::Joined(_) | Frame::Offers(_)
    )
}

fn plain(line: &str, max: usize) -> String {
    let mut plain = String::new();
    for c in line.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if plain.len() + c.len_utf8() > max {
            break;
        }
        plain.push(c);
    }
    plain
}

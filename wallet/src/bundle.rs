//! Several files in one, under a passphrase: a node's keys and wallet on their way to another machine.
//!
//! After the head of [`sealed`] come pieces of 64 KiB, each encrypted on its own and bound to its
//! place, so that none can be left out, doubled or moved, and the last is known to be the last (STREAM).
//! Inside: for each file the length of its name (`u8`), its name, its length (`u64`, little-endian) and its
//! bytes; then a zero.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};

use aead_stream::{DecryptorBE32, EncryptorBE32, Nonce, StreamBE32};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::Payload;
use zeroize::Zeroizing;

use crate::keystore::KeyError;
use crate::keystore::sealed::{self, HEAD, Passphrase, Unopened};

/// First bytes of a bundle, also bound into its encryption.
const MAGIC: &[u8; 16] = b"tirami-bundle-1\0";

/// Bytes that are encrypted at once; chosen.
const PIECE: usize = 64 * 1_024;

/// What encryption adds to a piece.
const TAG: usize = 16;

/// Why a bundle cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no bundle.
    #[error("it is not a bundle of 'tirami-agent wallet export' ({0})")]
    Damaged(&'static str),
    /// It opens nothing.
    #[error("the passphrase is wrong, or the bundle was changed or cut off")]
    Passphrase,
    /// It could not be encrypted.
    #[error(transparent)]
    Key(#[from] KeyError),
}

type StreamNonce = Nonce<XChaCha20Poly1305, StreamBE32<XChaCha20Poly1305>>;

/// What the pieces count from: the first 19 bytes of the head's nonce.
fn counted(nonce: &[u8; 24]) -> StreamNonce {
    let mut start = StreamNonce::default();
    for (to, from) in start.iter_mut().zip(nonce) {
        *to = *from;
    }
    start
}

/// Writes a bundle.
pub struct BundleWriter<W> {
    to: W,
    head: Vec<u8>,
    cipher: EncryptorBE32<XChaCha20Poly1305>,
    piece: Zeroizing<Vec<u8>>,
}

impl<W: Write> BundleWriter<W> {
    /// Begins a bundle under a passphrase.
    ///
    /// # Errors
    ///
    /// [`BundleError`], also when the passphrase is too short.
    pub fn new(mut to: W, passphrase: &Passphrase) -> Result<Self, BundleError> {
        passphrase.long_enough()?;
        let (head, cipher, nonce) = sealed::begin(MAGIC, passphrase)?;
        to.write_all(&head)?;
        Ok(Self {
            to,
            head,
            cipher: EncryptorBE32::from_aead(cipher, &counted(&nonce)),
            piece: Zeroizing::new(Vec::with_capacity(PIECE)),
        })
    }

    /// Adds a file of `length` bytes.
    ///
    /// # Errors
    ///
    /// [`BundleError`], also when there are not so many bytes.
    pub fn add(&mut self, name: &str, length: u64, from: impl Read) -> Result<(), BundleError> {
        let size = u8::try_from(name.len()).ok().filter(|size| *size > 0);
        let size = size.ok_or(BundleError::Damaged("a file has no name that fits"))?;
        self.write(&[size])?;
        self.write(name.as_bytes())?;
        self.write(&length.to_le_bytes())?;
        let mut bytes = Zeroizing::new(vec![0; PIECE]);
        let (mut from, mut left) = (from.take(length), length);
        while left > 0 {
            let count = from.read(&mut bytes)?;
            if count == 0 {
                return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
            }
            self.write(bytes.get(..count).unwrap_or_default())?;
            left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Ends the bundle.
    ///
    /// # Errors
    ///
    /// [`BundleError`].
    pub fn finish(mut self) -> Result<W, BundleError> {
        self.write(&[0])?;
        let payload = Payload {
            msg: &self.piece,
            aad: &self.head,
        };
        let last = self.cipher.encrypt_last(payload);
        self.to.write_all(&last.map_err(|_| too_long())?)?;
        Ok(self.to)
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), BundleError> {
        while !bytes.is_empty() {
            // A full piece waits until it is known that another follows.
            if self.piece.len() == PIECE {
                let payload = Payload {
                    msg: &self.piece,
                    aad: &self.head,
                };
                let sealed = self.cipher.encrypt_next(payload);
                self.to.write_all(&sealed.map_err(|_| too_long())?)?;
                self.piece.clear();
            }
            let room = PIECE.saturating_sub(self.piece.len()).min(bytes.len());
            let (now, rest) = bytes.split_at(room);
            self.piece.extend_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }
}

const fn too_long() -> BundleError {
    BundleError::Damaged("it would be too long")
}

/// Reads a bundle.
pub struct BundleReader<R> {
    from: R,
    head: [u8; HEAD],
    /// `None` once the last piece was read.
    cipher: Option<DecryptorBE32<XChaCha20Poly1305>>,
    piece: Zeroizing<Vec<u8>>,
    read: usize,
    /// Bytes of the file that is being read that were not read yet.
    left: u64,
}

impl<R: Read> BundleReader<R> {
    /// Begins to read one.
    ///
    /// # Errors
    ///
    /// [`BundleError`].
    pub fn new(mut from: R, passphrase: &Passphrase) -> Result<Self, BundleError> {
        let mut head = [0; HEAD];
        from.read_exact(&mut head)
            .map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => BundleError::Damaged("it is too short"),
                _ => error.into(),
            })?;
        let (cipher, nonce) = sealed::again(MAGIC, passphrase, &head).map_err(|why| match why {
            Unopened::Damaged(what) => BundleError::Damaged(what),
            Unopened::Passphrase => BundleError::Passphrase,
        })?;
        Ok(Self {
            from,
            head,
            cipher: Some(DecryptorBE32::from_aead(cipher, &counted(&nonce))),
            piece: Zeroizing::default(),
            read: 0,
            left: 0,
        })
    }

    /// The name and length of the next file, whose bytes are then [read](Read); `None` after the last, when
    /// the whole bundle has proved to be what was written.
    ///
    /// # Errors
    ///
    /// [`BundleError`].
    pub fn next_file(&mut self) -> Result<Option<(String, u64)>, BundleError> {
        let damaged = || BundleError::Damaged("what is in it is damaged");
        if self.left > 0 {
            return Err(damaged());
        }
        let [size] = self.exactly()?;
        if size == 0 {
            let ended = self.cipher.is_none() && self.read == self.piece.len();
            return if ended { Ok(None) } else { Err(damaged()) };
        }
        let mut name = vec![0; size.into()];
        for byte in &mut name {
            [*byte] = self.exactly()?;
        }
        let name = String::from_utf8(name).map_err(|_| damaged())?;
        let length = u64::from_le_bytes(self.exactly()?);
        self.left = length;
        Ok(Some((name, length)))
    }

    fn exactly<const N: usize>(&mut self) -> Result<[u8; N], BundleError> {
        let mut bytes = [0; N];
        for byte in &mut bytes {
            if self.read == self.piece.len() {
                self.next_piece()?;
            }
            *byte = *self
                .piece
                .get(self.read)
                .ok_or(BundleError::Damaged("it is cut off"))?;
            self.read = self.read.saturating_add(1);
        }
        Ok(bytes)
    }

    /// Decrypts the next piece; leaves nothing to read after the last.
    fn next_piece(&mut self) -> Result<(), BundleError> {
        (self.read, self.piece) = (0, Zeroizing::default());
        let Some(mut cipher) = self.cipher.take() else {
            return Ok(());
        };
        let mut sealed = Vec::new();
        let whole = PIECE.saturating_add(TAG);
        let most = u64::try_from(whole).unwrap_or(u64::MAX);
        (&mut self.from).take(most).read_to_end(&mut sealed)?;
        let payload = Payload {
            msg: &sealed,
            aad: &self.head,
        };
        // A full piece may be the last; which it is only the cipher knows.
        let next = (sealed.len() == whole)
            .then(|| cipher.decrypt_next(payload).ok())
            .flatten();
        if let Some(piece) = next {
            self.piece = Zeroizing::new(piece);
            self.cipher = Some(cipher);
            return Ok(());
        }
        let payload = Payload {
            msg: &sealed,
            aad: &self.head,
        };
        let last = cipher.decrypt_last(payload);
        self.piece = Zeroizing::new(last.map_err(|_| BundleError::Passphrase)?);
        let mut more = [0];
        if self.from.read(&mut more)? > 0 {
            return Err(BundleError::Damaged("something follows its end"));
        }
        Ok(())
    }
}

impl<W> fmt::Debug for BundleWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BundleWriter(..)")
    }
}

impl<R> fmt::Debug for BundleReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BundleReader(..)")
    }
}

impl<R: Read> Read for BundleReader<R> {
    /// Bytes of the file that [`BundleReader::next_file`] named.
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || bytes.is_empty() {
            return Ok(0);
        }
        if self.read == self.piece.len() {
            self.next_piece().map_err(|error| match error {
                BundleError::Io(error) => error,
                error => io::Error::new(ErrorKind::InvalidData, error.to_string()),
            })?;
        }
        let there = self.piece.get(self.read..).unwrap_or_default();
        if there.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let count = there.len().min(bytes.len()).min(left);
        for (to, from) in bytes.iter_mut().zip(there.iter().take(count)) {
            *to = *from;
        }
        self.read = self.read.saturating_add(count);
        self.left = self
            .left
            .saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

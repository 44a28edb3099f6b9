//! The intent of a purchase: on its way to the disk, or there.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::Poll;

use tirami_wallet::intent::{Attempt, Intent, IntentKey};
use tirami_wallet::{Wallet, WalletError};

use crate::failure::{Failure, FailureCode};

/// An intent that is worked on.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) intent: IntentKey,
    body: [u8; 32],
    state: State,
}

enum State {
    /// Nobody asked for it before, so that all that is to come is an attempt, the first.
    Soon(Mutex<Writing>),
    There(Attempt),
    Failed(Failure),
}

/// It is written, whole, whether or not somebody waits for it. Behind a lock that nobody waits for, so that others
/// may look at a purchase meanwhile.
type Writing = Pin<Box<dyn Future<Output = Result<Intent, WalletError>> + Send>>;

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Soon(_) => f.write_str("Soon"),
            Self::There(attempt) => attempt.fmt(f),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl Begun {
    /// Begins an intent, or gives its stored answer back. One that is new is written while prices are asked for,
    /// which bind nobody who asks; nothing is set aside and no work begins before [`Begun::attempt`].
    pub(crate) async fn begin(
        wallet: &Wallet,
        intent: IntentKey,
        body: [u8; 32],
    ) -> Result<Result<Self, Vec<u8>>, Failure> {
        let state = if wallet.knows_intent(&intent)? {
            match wallet.begin(intent.clone(), body).await? {
                Intent::Answered(stored) => return Ok(Err(stored)),
                Intent::Attempt(attempt) => State::There(attempt),
            }
        } else {
            let (wallet, intent) = (wallet.clone(), intent.clone());
            let mut writing: Writing = Box::pin(async move { wallet.begin(intent, body).await });
            // From here on it has its place before whatever is written next.
            match poll_fn(|context| Poll::Ready(writing.as_mut().poll(context))).await {
                Poll::Pending => State::Soon(Mutex::new(writing)),
                Poll::Ready(written) => attempted(written?),
            }
        };
        Ok(Ok(Self {
            intent,
            body,
            state,
        }))
    }

    /// Whether nobody asked for it before.
    pub(crate) const fn is_first(&self) -> bool {
        match &self.state {
            State::Soon(_) => true,
            State::There(attempt) => attempt.is_first(),
            State::Failed(_) => false,
        }
    }

    /// The attempt, where there may have been earlier ones.
    pub(crate) const fn later(&self) -> Option<&Attempt> {
        match &self.state {
            State::There(attempt) => Some(attempt),
            State::Soon(_) | State::Failed(_) => None,
        }
    }

    /// The attempt, once it is on disk.
    pub(crate) async fn attempt(&mut self) -> Result<&Attempt, Failure> {
        if let State::Soon(writing) = &mut self.state {
            let writing = writing.get_mut().unwrap_or_else(PoisonError::into_inner);
            self.state = match writing.await {
                Ok(intent) => attempted(intent),
                Err(error) => State::Failed(error.into()),
            };
        }
        match &self.state {
            State::There(attempt) => Ok(attempt),
            State::Failed(failure) => Err(failure.clone()),
            State::Soon(_) => Err(internal("an intent that was waited for is not there")),
        }
    }

    /// The next try at it has transfer ids of its own.
    pub(crate) async fn again(&mut self, wallet: &Wallet) -> Result<(), Failure> {
        self.attempt().await?;
        self.state = attempted(wallet.begin(self.intent.clone(), self.body).await?);
        self.attempt().await.map(|_| ())
    }
}

fn attempted(intent: Intent) -> State {
    match intent {
        Intent::Attempt(attempt) => State::There(attempt),
        Intent::Answered(_) => State::Failed(internal("answered while it was asked")),
    }
}

fn internal(what: &str) -> Failure {
    Failure::new(FailureCode::Internal, what)
}

//! The intent of a purchase: on its way to the disk, or there.

use tirami_wallet::intent::{Attempt, Intent, IntentKey};
use tirami_wallet::{Wallet, WalletError};
use tokio::task::JoinHandle;

use crate::failure::{Failure, FailureCode};

/// An intent that is worked on.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) intent: IntentKey,
    body: [u8; 32],
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nobody asked for it before, so that all that is to come is an attempt, the first.
    Soon(JoinHandle<Result<Intent, WalletError>>),
    There(Attempt),
    Failed(Failure),
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
            State::Soon(tokio::spawn(
                async move { wallet.begin(intent, body).await },
            ))
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
            self.state = match writing.await {
                Ok(Ok(intent)) => attempted(intent),
                Ok(Err(error)) => State::Failed(error.into()),
                Err(error) => State::Failed(internal(&error.to_string())),
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

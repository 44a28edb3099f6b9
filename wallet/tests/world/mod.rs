//! Who and what the tests of a whole wallet are about: keys, a network, trades.

use std::sync::Arc;

use tirami_manifest::commerce::{Agreement, Quote, Receipt, VerifiedReceipt};
use tirami_manifest::genesis::Genesis;
use tirami_manifest::job::{Finish, Sampler};
use tirami_manifest::key::SecretKey;
use tirami_manifest::mandate::Action;
use tirami_manifest::model::{ModelCard, Usage};
use tirami_manifest::signed::{Signed, Verified};
use tirami_manifest::time::ManualClock;
use tirami_manifest::{
    Amount, InvitationId, ModelId, Multiplier, NetworkId, Timestamp, TransferId,
};
use tirami_wallet::jobs::JobStart;
use tirami_wallet::store::{CACHE_BYTES, Storage};
use tirami_wallet::strangers::STRANGER_BUDGET;
use tirami_wallet::{OpenOptions, Wallet, WalletError, Work};

pub(crate) const START: Timestamp = Timestamp::from_ms(1_900_000_000_000);
pub(crate) const TIMEOUT_MS: u64 = 120_000;

/// The key of party number `n`; 1 is the node under test.
pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32])
}

pub(crate) const fn trm(n: u64) -> Amount {
    Amount::from_trm(n)
}

/// A network founded by party 1, with loans large enough to play with.
pub(crate) fn genesis() -> Genesis {
    Genesis {
        welcome_loan: trm(100_000),
        welcome_daily_cap: trm(300_000),
        ..Genesis::private("test", key(1).id(), START, [7; 16])
    }
}

pub(crate) fn open(
    storage: Storage,
    clock: &Arc<ManualClock>,
    key: SecretKey,
) -> Result<Wallet, WalletError> {
    Wallet::open(OpenOptions {
        storage,
        clock: clock.clone(),
        key,
        hold_timeout_ms: TIMEOUT_MS,
        stranger_budget: STRANGER_BUDGET,
        cache_bytes: CACHE_BYTES,
    })
}

/// A model of which one token of prompt costs one TRM.
const CARD: ModelCard = ModelCard {
    id: ModelId::from_bytes([5; 32]),
    block_weights: 500_000_000,
    head_weights: 0,
    attention_flop: 0,
    window: 0,
    context: 1_000_000,
};

/// What is bought here, whoever sells it.
pub(crate) const WORK: Work = Work {
    action: Action::Chat,
    payee: None,
    model: Some(CARD.id),
    price: Some(Multiplier::PAR),
};

/// What a job under a quote is begun with.
pub(crate) fn job(quote: &Quote) -> JobStart {
    JobStart {
        hold: TransferId::from_bytes(quote.nonce),
        sampler: Sampler::GREEDY,
        started: START,
        engine_fingerprint: [0; 8],
    }
}

/// A quote and those who may act under it.
pub(crate) struct Trade {
    pub(crate) quote: Verified<Quote>,
    provider: SecretKey,
    consumer: SecretKey,
}

impl Trade {
    /// `provider` quotes `consumer` at most `max` TRM; quotes with another `nonce` are others.
    pub(crate) fn new(
        network: NetworkId,
        provider: &SecretKey,
        consumer: &SecretKey,
        (max, nonce): (u32, u8),
    ) -> Self {
        let quote = Quote {
            network,
            provider: provider.id(),
            consumer: consumer.id(),
            card: CARD,
            multiplier: Multiplier::PAR,
            max_in: max,
            max_out: 0,
            max_amount: trm(max.into()),
            chunk_tokens: 8,
            window: 0,
            issued: START,
            expires: START.after_ms(30_000),
            nonce: [nonce; 16],
        };
        Self {
            quote: Signed::new(quote, provider).verify(&provider.id()).unwrap(),
            provider: provider.clone(),
            consumer: consumer.clone(),
        }
    }

    /// What both sign when `amount` TRM were used of `hold`.
    pub(crate) fn receipt(&self, hold: TransferId, amount: u32) -> VerifiedReceipt {
        let usage = Usage {
            tokens_in: amount,
            ..Usage::default()
        };
        let agreement = Agreement {
            network: self.quote.network,
            provider: self.quote.provider,
            consumer: self.quote.consumer,
            nonce: self.quote.nonce,
            quote: self.quote.id(),
            hold,
            model: CARD.id,
            usage,
            kflop: CARD.kflop(usage).unwrap(),
            multiplier: Multiplier::PAR,
            earlier: Amount::ZERO,
            amount: trm(amount.into()),
            transcript: [0; 32],
            seed: 0,
            temperature_milli: 0,
            top_k: 0,
            lane: 0,
            voucher_seq: 0,
            audit_ok: false,
            engine_fingerprint: [0; 8],
            started_hlc: START.ms() << 16,
            ended_hlc: START.ms() << 16,
            finish: Finish::Stop,
        };
        let id = agreement.provider;
        let proposal = Signed::new(agreement, &self.provider).verify(&id).unwrap();
        Receipt::countersign(&self.quote, &proposal, &self.consumer).unwrap()
    }
}

/// Founds the network, lends to party 2, and lets it buy from the node for `amount` TRM, which its
/// main agent then has; `told` after each answer.
pub(crate) async fn fund(
    wallet: &Wallet,
    amount: u32,
    mut told: impl FnMut(),
) -> Result<(), WalletError> {
    wallet.found(genesis()).await?;
    told();
    wallet.ensure_main_agent([0; 32]).await?;
    told();
    let invitation = wallet.invite(InvitationId::from_bytes([200; 16])).await?;
    told();
    wallet.welcome(invitation, key(2).id()).await?;
    told();
    let trade = Trade::new(genesis().id(), &key(1), &key(2), (amount, 200));
    let receipt = trade.receipt(TransferId::from_bytes([200; 16]), amount);
    wallet.earn(receipt).await?;
    told();
    Ok(())
}

/// Every rule of the audit holds.
pub(crate) fn sound(wallet: &Wallet) {
    for check in wallet.audit().unwrap() {
        assert!(check.holds, "{}: {}", check.rule, check.detail);
    }
}

//! Takes one job from its provider: runs [`Buying`] on a link, a hold and whoever reads the answer.

use tirami_manifest::commerce::{Agreement, Quote, Voucher};
use tirami_manifest::job::Message;
use tirami_manifest::signed::{Signed, Verified};
use tirami_manifest::{Amount, Timestamp};
use tirami_mesh::net::transport::Link;
use tirami_mesh::proto::Terms;
use tirami_mesh::proto::buying::{Buying, Effect, Event};
use tirami_mesh::proto::message::{Frame, Refuse, RefuseCode, SignedBytes, Start};
use tirami_wallet::Hold;
use tirami_wallet::hold::VoidReason;

use crate::buy::{Purchase, sampler, until};
use crate::failure::{Failure, FailureCode};
use crate::patience::Patience;
use crate::quoting::{broke_its_word, refusal};
use crate::travelling;

/// What a provider delivered.
pub(crate) struct Delivered {
    pub(crate) text: String,
    pub(crate) proposal: Box<Verified<Agreement>>,
}

/// A job that broke off: why, what had arrived by then, and how its hold ends.
pub(crate) struct Cut {
    pub(crate) failure: Failure,
    pub(crate) rest: Rest,
    pub(crate) text: String,
    pub(crate) tokens: u32,
    /// Tokens of the prompt, once the provider had counted them.
    pub(crate) tokens_in: u32,
    /// Whether it was the provider's doing.
    pub(crate) is_fault: bool,
    /// What is owed for it.
    pub(crate) vouched: Amount,
    pub(crate) reason: VoidReason,
}

/// Who may do what is missing of a job that broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nobody: it would break off there too.
    Nobody,
    /// Another provider, from the beginning: what arrived is not to be trusted.
    Afresh,
    /// Another provider, from where this one stopped.
    FromThere,
}

/// What becomes of a job after an effect.
enum Next {
    Goes,
    Nobody,
    Done(Box<Verified<Agreement>>),
}

/// Why a job stops.
struct Stop {
    failure: Failure,
    rest: Rest,
    refused: Option<RefuseCode>,
}

impl Stop {
    const fn new(failure: Failure, rest: Rest) -> Self {
        Self {
            failure,
            rest,
            refused: None,
        }
    }

    /// Whether the provider broke off a job that it had taken.
    fn is_fault(&self) -> bool {
        match self.refused {
            None => self.rest != Rest::Nobody,
            Some(code) => code == RefuseCode::Internal,
        }
    }

    /// It is nobody's fault but this node's.
    const fn here(failure: Failure) -> Self {
        Self::new(failure, Rest::Nobody)
    }
}

/// One job on its way.
struct Intake<'a> {
    purchase: &'a Purchase<'a>,
    link: &'a mut Link,
    hold: &'a Hold,
    buying: Buying,
    patience: Patience,
    renewed: Timestamp,
    /// What is on disk of what was vouched for.
    promised: Amount,
    /// Whether the provider was told that nobody wants the rest.
    cancelled: bool,
}

impl Purchase<'_> {
    /// Sends the prompt and takes the work against vouchers, until the provider proposes what it costs.
    pub(crate) async fn perform(
        &self,
        link: &mut Link,
        (quote, messages, patience): (&Verified<Quote>, &[Message], Patience),
        hold: &Hold,
    ) -> Result<Delivered, Cut> {
        let terms = Terms::new(quote, hold.id());
        let sampler = sampler(self.chat);
        let mut intake = Intake {
            purchase: self,
            link,
            hold,
            buying: Buying::new(quote, terms, messages, sampler),
            patience,
            renewed: self.runtime.now(),
            promised: Amount::ZERO,
            cancelled: false,
        };
        let start = Start {
            quote: quote.id(),
            hold: hold.id(),
            messages: messages.to_vec(),
            sampler,
            stop: self.chat.stop.clone(),
            under: hold.under().map(travelling::to_wire),
        };
        match intake.take(start).await {
            Ok(proposal) => Ok(Delivered {
                text: intake.buying.text().to_owned(),
                proposal,
            }),
            Err(stop) => Err(intake.cut(stop)),
        }
    }
}

impl Intake<'_> {
    fn cut(&self, stop: Stop) -> Cut {
        // What it took money for, or said that it began, is not refused any more without a fault.
        let taken = !self.promised.is_zero() || self.buying.has_begun();
        let broke = stop.is_fault() || taken && stop.refused.is_some();
        // It waited as long as it must.
        let spent_here = stop.refused == Some(RefuseCode::Busy) && self.patience.is_spent_here();
        let Stop {
            failure,
            rest,
            refused,
        } = stop;
        let under = self.purchase.means.under.is_some();
        let reason = match ends(&failure, refused, under) {
            VoidReason::NotTaken if broke && !under => VoidReason::Failed,
            reason => reason,
        };
        Cut {
            failure,
            // Nobody wants what another would do.
            rest: if self.cancelled { Rest::Nobody } else { rest },
            text: self.buying.text().to_owned(),
            tokens: self.buying.tokens(),
            tokens_in: self.buying.counted().tokens_in,
            is_fault: broke && !spent_here,
            vouched: self.promised,
            reason,
        }
    }

    async fn take(&mut self, start: Start) -> Result<Box<Verified<Agreement>>, Stop> {
        self.send(&Frame::Start(start)).await?;
        let purchase = self.purchase;
        let mut frozen = purchase.runtime.inner.frozen.subscribe();
        loop {
            let asked = tokio::time::Instant::now();
            let event = tokio::select! {
                biased;
                () = until(&mut frozen) => return Err(self.freeze().await),
                // Not only when the next piece comes: that may be long.
                () = purchase.hung_up(), if !self.cancelled => {
                    self.cancelled = true;
                    Event::Cancel
                }
                () = tokio::time::sleep(self.patience.left_in_all()) => Event::Overdue,
                frame = self.link.receive_within(self.patience.left()) => match frame {
                    Ok(Some(frame)) => Event::Said(frame),
                    Ok(None) => Event::Closed,
                    Err(error) => return Err(Stop::new(error.into(), Rest::FromThere)),
                },
            };
            let waited = asked.elapsed();
            let mut effects: std::collections::VecDeque<_> = self.buying.on(event).into();
            let so_far = (self.buying.has_begun(), self.buying.tokens());
            self.patience.heard(so_far, waited);
            while let Some(effect) = effects.pop_front() {
                let next = tokio::select! {
                    biased;
                    () = until(&mut frozen), if matches!(effect, Effect::PassOn(_)) => break,
                    next = self.does(effect.clone()) => next?,
                };
                match next {
                    Next::Goes => {}
                    Next::Nobody if self.cancelled => {}
                    Next::Nobody => {
                        self.cancelled = true;
                        effects.extend(self.buying.on(Event::Cancel));
                    }
                    Next::Done(proposal) => return Ok(proposal),
                }
            }
            self.renew().await?;
        }
    }

    /// Nothing is promised any more: the provider stops at the next token.
    async fn freeze(&mut self) -> Stop {
        for effect in self.buying.on(Event::Freeze) {
            if let Effect::Send(frame) = effect
                && let Err(error) = self.link.send(&frame).await
            {
                tracing::debug!(%error, "the provider did not hear the cancellation");
            }
        }
        Stop::here(self.purchase.frozen_now())
    }

    async fn does(&mut self, effect: Effect) -> Result<Next, Stop> {
        let peer = self.link.peer();
        match effect {
            Effect::Vouch(voucher) => self.vouch(voucher).await?,
            Effect::PassOn(text) => {
                let came = tokio::time::Instant::now();
                let is_wanted = self.purchase.pass_on(text).await;
                self.patience.read_in(came.elapsed());
                if !is_wanted {
                    return Ok(Next::Nobody);
                }
            }
            Effect::Send(frame) => self.send(&frame).await?,
            Effect::Agree(proposal) => return Ok(Next::Done(proposal)),
            Effect::Refused(refuse) => return Err(said_no(peer, &refuse)),
            Effect::CalledOff => {
                let text = "nobody read the answer any more; nothing was paid";
                return Err(Stop::here(Failure::new(FailureCode::ProviderFailed, text)));
            }
            Effect::Gone => {
                let failure = broke_its_word(peer, "it hung up");
                return Err(Stop::new(failure, Rest::FromThere));
            }
            Effect::Overdue => {
                let what = format!("it took longer than {} s", self.patience.lasts().as_secs());
                return Err(Stop::new(broke_its_word(peer, &what), Rest::FromThere));
            }
            Effect::Broke(what) => {
                return Err(Stop::new(broke_its_word(peer, &what), Rest::Afresh));
            }
        }
        Ok(Next::Goes)
    }

    /// The promise is on disk before it is sent.
    async fn vouch(&mut self, voucher: Voucher) -> Result<(), Stop> {
        // Tokens that cost nothing more need no promise of more.
        if voucher.total > self.promised {
            let stored = self.hold.vouch(voucher.total).await;
            stored.map_err(|error| Stop::here(error.into()))?;
            self.promised = voucher.total;
        }
        let signed = Signed::new(voucher, &self.purchase.runtime.inner.key);
        let frame = Frame::Voucher(SignedBytes(signed.to_bytes()));
        self.send(&frame).await
    }

    async fn send(&mut self, frame: &Frame) -> Result<(), Stop> {
        let sent = self.link.send(frame).await;
        sent.map_err(|error| Stop::new(error.into(), Rest::FromThere))
    }

    /// Keeps the hold alive while the provider gives signs of life.
    async fn renew(&mut self) -> Result<(), Stop> {
        let runtime = self.purchase.runtime;
        let now = runtime.now();
        if now.since_ms(self.renewed) > runtime.inner.config.hold_timeout_ms / 4 {
            self.renewed = now;
            let renewed = self.hold.renew().await;
            renewed.map_err(|error| Stop::here(error.into()))?;
        }
        Ok(())
    }
}

fn said_no(peer: tirami_manifest::NodeId, refuse: &Refuse) -> Stop {
    Stop {
        refused: Some(refuse.code),
        ..Stop::new(refusal(peer, refuse), Rest::FromThere)
    }
}

/// How a hold ends. A provider that said no claims nothing: units of a mandate are free then, except where it
/// says that they are not, so that the next try names others. What failed counts where this node pays.
fn ends(failure: &Failure, refused: Option<RefuseCode>, under_mandate: bool) -> VoidReason {
    let failed = matches!(
        failure.code,
        FailureCode::ProviderFailed | FailureCode::Model
    );
    match (failed, refused) {
        (true, Some(RefuseCode::Units) | None) => VoidReason::Failed,
        (false, Some(RefuseCode::Units) | None) => VoidReason::CalledOff,
        (true, Some(_)) if !under_mandate => VoidReason::Failed,
        (_, Some(_)) => VoidReason::NotTaken,
    }
}

#[cfg(test)]
mod tests {
    use tirami_manifest::NodeId;
    use tirami_mesh::proto::message::Retry;

    use super::*;
    use crate::refusing::refused;

    #[test]
    fn a_refusal_frees_units_unless_it_says_that_they_are_not_free() {
        let provider = NodeId::from_bytes([1; 32]);
        let reason = |code, under| {
            let stop = said_no(provider, &refused(code, "no", Retry::Never));
            ends(&stop.failure, stop.refused, under)
        };
        for code in [
            RefuseCode::Busy,
            RefuseCode::NotMember,
            RefuseCode::NotFunded,
            RefuseCode::QuoteExpired,
            RefuseCode::BadRequest,
            RefuseCode::Internal,
            RefuseCode::Mandate,
        ] {
            assert_eq!(reason(code, true), VoidReason::NotTaken, "{code}");
        }
        assert_ne!(reason(RefuseCode::Units, true), VoidReason::NotTaken);
        // Where this node pays, its breakers count what failed.
        assert_eq!(reason(RefuseCode::Internal, false), VoidReason::Failed);
        assert_eq!(reason(RefuseCode::NotFunded, false), VoidReason::NotTaken);
    }
}

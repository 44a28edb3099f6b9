//! Operations on the node itself: what it is, whom it invites, which network it enters.

use tirami_manifest::InvitationId;
use tirami_manifest::ticket::Ticket;

use super::selling::why_closed;
use super::{
    Caller, GetManifest, Join, JoinOutput, MakeTicket, ManifestOutput, Operation, Status,
    StatusOutput, TextSink, TicketOutput,
};
use crate::clock::random;
use crate::failure::Failure;
use crate::runtime::Runtime;
use crate::{agent_manifest, offers, selling, sync};

impl Operation for Status {
    const NAME: &'static str = "status";
    // It tells an owner, who has no token, what to sign.
    const NEEDS_TOKEN: bool = false;
    type Output = StatusOutput;

    async fn run(
        self,
        runtime: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<StatusOutput, Failure> {
        let (wallet, genesis) = (&runtime.inner.wallet, runtime.genesis());
        let owner = wallet.owner()?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let joining = wallet.pending_ticket()?.is_some();
        let frozen = wallet.frozen()?.map(|freeze| freeze.reason);
        let mut warnings = Vec::new();
        if owner.is_none() {
            warnings.push(
                "no owner yet: whoever runs 'tirami-agent owner init' first owns this node; \
                 nobody can loosen a limit or lift a freeze until then"
                    .to_owned(),
            );
        }
        if joining {
            warnings.push("the welcome loan is not fetched yet".to_owned());
        }
        let refused = wallet.refused()?.len();
        if refused > 0 {
            warnings.push(format!(
                "{refused} receipts were refused for good and are not sent again: 'tirami-agent \
                 mandate list' says why"
            ));
        }
        if let Some(why) = runtime.uncertified() {
            warnings.push(format!(
                "the network's witness does not certify this node's chain: {why}"
            ));
        }
        let authority = genesis.authority();
        Ok(StatusOutput {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: runtime.node(),
            pid: std::process::id(),
            data_dir: runtime.inner.config.data_dir.display().to_string(),
            network: genesis.id(),
            network_name: genesis.name,
            role: if authority == Some(runtime.node()) {
                "founder"
            } else {
                "member"
            }
            .to_owned(),
            authority,
            owner: owner.map(|owner| owner.id),
            next_order: owner.map_or(0, |owner| owner.next_order),
            addresses: runtime
                .addresses()
                .iter()
                .map(ToString::to_string)
                .collect(),
            http: runtime.inner.config.http.clone(),
            models: offers::own(runtime, runtime.multiplier())
                .into_iter()
                .map(|offer| offer.name)
                .collect(),
            selling_closed: why_closed(runtime, &selling::state(runtime)?).map(|(why, _)| why),
            frozen,
            open_holds: count(wallet.open_holds()?.len()),
            open_jobs: count(wallet.open_jobs()?.len()),
            outbox: count(
                wallet
                    .outbox()?
                    .len()
                    .saturating_add(to_be_claimed(runtime)?),
            ),
            joining,
            warnings,
        })
    }
}

/// Jobs that broke off and whose vouchers are to be claimed.
fn to_be_claimed(runtime: &Runtime) -> Result<usize, Failure> {
    let open = runtime.inner.wallet.open_jobs()?;
    let running = runtime.running();
    let owed = open
        .iter()
        .filter(|(job, row)| row.is_owed() && !running.contains(job));
    Ok(owed.count())
}

impl Operation for MakeTicket {
    const NAME: &'static str = "ticket";
    type Output = TicketOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<TicketOutput, Failure> {
        caller.must_be_main()?;
        let addresses = runtime.transport()?.addresses();
        let invitation = runtime
            .inner
            .wallet
            .invite(InvitationId::from_bytes(random()))
            .await?;
        let genesis = runtime.genesis();
        let (network, trm_welcome_loan) = (genesis.id(), genesis.welcome_loan);
        let ticket = Ticket {
            genesis,
            invitation,
            addresses,
        }
        .to_string();
        Ok(TicketOutput {
            ticket,
            network,
            trm_welcome_loan,
        })
    }
}

impl Operation for Join {
    const NAME: &'static str = "join";
    type Output = JoinOutput;

    async fn run(
        self,
        runtime: &Runtime,
        caller: Caller,
        _: Option<TextSink>,
    ) -> Result<JoinOutput, Failure> {
        caller.must_be_main()?;
        sync::join(runtime, &self.ticket).await
    }
}

impl Operation for GetManifest {
    const NAME: &'static str = "manifest";
    type Output = ManifestOutput;

    async fn run(
        self,
        runtime: &Runtime,
        _: Caller,
        _: Option<TextSink>,
    ) -> Result<ManifestOutput, Failure> {
        Ok(ManifestOutput {
            manifest: agent_manifest::signed(runtime)?,
        })
    }
}

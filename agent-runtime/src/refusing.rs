//! How a provider says no, and the last word on a stream.

use tirami_manifest::{Amount, NodeId, Timestamp};
use tirami_mesh::engine::EngineError;
use tirami_mesh::net::transport::{FIRST_FRAME_WITHIN, Link, NetError};
use tirami_mesh::proto::message::{Frame, Refuse, RefuseCode, Retry};

use crate::selling::{Closed, NotSold};

/// Says one last thing; a peer that is gone does not hear it.
pub(crate) async fn say(mut link: Link, frame: Frame) {
    log(link.peer(), &frame);
    let said = async {
        link.send(&frame).await?;
        link.finish()?;
        // The peer reads at its own pace; a link that is dropped at once may lose what it said.
        let heard = async { while matches!(link.receive().await, Ok(Some(_))) {} };
        drop(tokio::time::timeout(FIRST_FRAME_WITHIN, heard).await);
        Ok::<_, NetError>(())
    };
    if let Err(error) = said.await {
        tracing::debug!(%error, "a peer did not hear the answer");
    }
}

/// Notes a refusal: what a peer did that it must not, or what it cannot have. Any peer can bring one about as
/// often as it likes, so only a log that was asked for details has it.
pub(crate) fn log(peer: NodeId, frame: &Frame) {
    if let Frame::Refuse(refused) = frame {
        tracing::debug!(peer = %peer.short(), %refused, "a peer was refused");
    }
}

pub(crate) fn refuse(code: RefuseCode, message: &str, retry: Retry) -> Frame {
    Frame::Refuse(refused(code, message, retry))
}

pub(crate) fn refused(code: RefuseCode, message: &str, retry: Retry) -> Refuse {
    Refuse {
        code,
        message: message.to_owned(),
        retry,
    }
}

/// No quote and no reservation for a borrower that did not pay back in time.
pub(crate) fn in_default(owed: Amount) -> Refuse {
    let text = format!(
        "your welcome loan is in default: {owed} TRM are owed; repay it with 'tirami-agent loans \
         repay', or sell to this node: that repays it first"
    );
    refused(RefuseCode::LoanDefault, &text, Retry::Later)
}

pub(crate) fn internal(error: &dyn std::fmt::Display) -> Refuse {
    tracing::error!(%error, "a request of a peer met an error of this node");
    refused(
        RefuseCode::Internal,
        "the provider's wallet is not available",
        Retry::Later,
    )
}

/// The owner of this node does not want to sell this now.
pub(crate) fn not_sold(why: &NotSold, now: Timestamp) -> Refuse {
    match why {
        NotSold::Closed(closed @ Closed::Buyer) => {
            refused(RefuseCode::NotMember, &closed.to_string(), Retry::Never)
        }
        NotSold::Closed(closed) => refused(RefuseCode::Busy, &closed.to_buyer(now), Retry::Later),
        NotSold::Failed(error) => internal(error),
    }
}

pub(crate) fn engine_refused(error: &EngineError) -> Refuse {
    let (code, retry) = match error {
        EngineError::TooLong { .. } | EngineError::AboveAgreed { .. } => {
            (RefuseCode::TooLong, Retry::Never)
        }
        EngineError::Busy => (RefuseCode::Busy, Retry::Later),
        EngineError::NoMessages | EngineError::Template(_) => {
            (RefuseCode::BadRequest, Retry::Never)
        }
        _ => (RefuseCode::Internal, Retry::Later),
    };
    refused(code, &error.to_string(), retry)
}

//! A witness that does not do what it is there for.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tirami_agent_runtime::ops::Freeze;
use tirami_manifest::chain::{Certificate, Entry, Head};
use tirami_manifest::key::SecretKey;
use tirami_manifest::signed::Signed;
use tirami_mesh::net::memory::MemoryTransport;
use tirami_mesh::net::transport::{Incoming, Transport};
use tirami_mesh::proto::message::{Certified, Certify, Frame, Refuse, RefuseCode, Retry};
use tirami_wallet::keystore::node_key;

use super::providers::{self, Provider};
use super::until;
use crate::{chat, holds, pair, run};

/// More than passes between two tries to be certified, and less than twice as much.
const ONE_TRY: Duration = Duration::from_millis(2_100);

/// In the place of the founder, with its key and nothing that it knew.
#[derive(Clone)]
struct Witness {
    key: SecretKey,
    wire: Arc<MemoryTransport>,
    willing: Arc<Mutex<bool>>,
    /// How many entries it was shown at a time since it is willing.
    shown: Arc<Mutex<Vec<usize>>>,
    certified: Arc<Mutex<Option<Vec<u8>>>>,
}

impl Witness {
    async fn serve(self) {
        while let Some(Incoming { mut link, .. }) = self.wire.accept().await {
            while let Ok(Some(Frame::Certify(certify))) = link.receive().await {
                let _gone = link.send(&self.answer(&certify)).await;
            }
        }
    }

    /// Certifies the first of the entries that it is shown and leaves the rest.
    fn answer(&self, certify: &Certify) -> Frame {
        if !*self.willing.lock().unwrap() {
            return Frame::Refuse(Refuse {
                code: RefuseCode::Busy,
                message: "not now".into(),
                retry: Retry::Later,
            });
        }
        if let Some(bytes) = certify.entries.first() {
            self.shown.lock().unwrap().push(certify.entries.len());
            let entry = Signed::<Entry>::from_bytes(bytes).unwrap().body;
            let head = Head {
                network: entry.network,
                epoch: 0,
                author: entry.author,
                seq: entry.seq,
                entry: entry.id(),
            };
            let certificate = Certificate::alone(head, &self.key);
            *self.certified.lock().unwrap() = Some(certificate.to_bytes());
        }
        Frame::Certified(Certified {
            certificate: self.certified.lock().unwrap().clone(),
            credits: Vec::new(),
        })
    }
}

#[tokio::test]
async fn a_witness_that_certifies_a_little_at_a_time_is_shown_the_rest_the_next_time() {
    let (pair, what) = (pair().await, "little by little");
    let seller = Provider::beside(&pair, providers::honest()).await;
    let key = node_key(&pair.folders.0.path().join("node.key"), None).unwrap();
    let witness = Witness {
        wire: Arc::new(pair.network.transport(key.id())),
        key,
        willing: Arc::default(),
        shown: Arc::default(),
        certified: Arc::default(),
    };
    tokio::spawn(witness.clone().serve());
    for _ in 0..3 {
        let mut request = chat(providers::PROMPT);
        request.max_tokens = Some(providers::TOKENS_OUT);
        run(&pair.member, request).await.unwrap();
        seller.forgets();
    }
    // From here on time stands still, but for one try after the other: it would go on where nobody has work.
    tokio::time::pause();
    let busy = tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    *witness.willing.lock().unwrap() = true;
    for tries in 1..=3 {
        tokio::time::advance(ONE_TRY).await;
        let shown = async || (witness.shown.lock().unwrap().len() >= tries).then_some(());
        until(what, shown).await;
        // Long enough for another question in the same conversation.
        for _ in 0..20 {
            run(&pair.member, Freeze { reason: None }).await.unwrap();
        }
        assert_eq!(witness.shown.lock().unwrap().len(), tries, "{what}");
    }
    assert_eq!(*witness.shown.lock().unwrap(), [5, 4, 3]);
    busy.abort();
    tokio::time::resume();
    assert!(holds(&pair.member).await);
}

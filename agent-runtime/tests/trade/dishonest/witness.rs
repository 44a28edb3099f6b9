//! A witness that does not do what it is there for.

use std::collections::VecDeque;
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

use super::provider::{self, Provider};
use super::until;
use crate::{chat, holds, pair, run};

/// More than passes between two tries to be certified, and less than twice as much.
const ONE_TRY: Duration = Duration::from_millis(2_100);

/// When it certifies the next entry of those that it was shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Shown,
    /// Also when it is only asked what it has.
    Asked,
}

/// In the place of the founder, with its key and nothing that it knew.
#[derive(Clone)]
struct Witness {
    key: SecretKey,
    wire: Arc<MemoryTransport>,
    willing: Arc<Mutex<bool>>,
    /// How many entries it was shown at a time since it is willing; none where it was only asked what it has.
    shown: Arc<Mutex<Vec<usize>>>,
    /// What it was shown last and did not certify yet.
    left: Arc<Mutex<VecDeque<Entry>>>,
    certified: Arc<Mutex<Option<Vec<u8>>>>,
    when: When,
}

impl Witness {
    async fn serve(self) {
        while let Some(Incoming { mut link, .. }) = self.wire.accept().await {
            while let Ok(Some(Frame::Certify(certify))) = link.receive().await {
                let _gone = link.send(&self.answer(&certify)).await;
            }
        }
    }

    /// Certifies one entry and leaves the rest.
    fn answer(&self, certify: &Certify) -> Frame {
        if !*self.willing.lock().unwrap() {
            return Frame::Refuse(Refuse {
                code: RefuseCode::Busy,
                message: "not now".into(),
                retry: Retry::Later,
            });
        }
        let mut left = self.left.lock().unwrap();
        self.shown.lock().unwrap().push(certify.entries.len());
        if !certify.entries.is_empty() {
            let entries = certify.entries.iter();
            let entries = entries.map(|bytes| Signed::<Entry>::from_bytes(bytes).unwrap().body);
            *left = entries.collect();
        }
        if (self.when == When::Asked || !certify.entries.is_empty())
            && let Some(entry) = left.pop_front()
        {
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

/// How many entries the witness is shown at a time in each of three tries, `0` where it is only asked what it has.
async fn shown_to_one_that_certifies(when: When) -> Vec<Vec<usize>> {
    let (pair, what) = (pair().await, "little by little");
    let seller = Provider::beside(&pair, provider::honest()).await;
    let key = node_key(&pair.folders.0.path().join("node.key"), None).unwrap();
    let witness = Witness {
        wire: Arc::new(pair.network.transport(key.id())),
        key,
        willing: Arc::default(),
        shown: Arc::default(),
        left: Arc::default(),
        certified: Arc::default(),
        when,
    };
    tokio::spawn(witness.clone().serve());
    for _ in 0..6 {
        let mut request = chat(provider::PROMPT);
        request.max_tokens = Some(provider::TOKENS_OUT);
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
    let mut tries = Vec::new();
    for _ in 0..3 {
        tokio::time::advance(ONE_TRY).await;
        until(what, async || {
            (witness.shown.lock().unwrap().len() >= 2).then_some(())
        })
        .await;
        // Long enough for another question in the same conversation.
        for _ in 0..100 {
            run(&pair.member, Freeze { reason: None }).await.unwrap();
        }
        tries.push(std::mem::take(&mut *witness.shown.lock().unwrap()));
    }
    busy.abort();
    tokio::time::resume();
    assert!(holds(&pair.member).await);
    tries
}

#[tokio::test]
async fn a_witness_that_certifies_a_little_at_a_time_is_shown_the_rest_the_next_time() {
    let shown = shown_to_one_that_certifies(When::Shown).await;
    assert_eq!(shown, [[0, 8], [0, 7], [0, 6]]);
}

#[tokio::test]
async fn a_witness_that_knows_more_with_each_question_is_asked_the_next_time() {
    let shown = shown_to_one_that_certifies(When::Asked).await;
    assert_eq!(shown, [[0, 8], [0, 0], [0, 0]]);
}

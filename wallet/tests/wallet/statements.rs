//! What is read for a statement that the node signs.

use tirami_manifest::Timestamp;
use tirami_wallet::ledger::account::Account;
use tirami_wallet::token::main_agent;

use crate::world::{START, trm};
use crate::{HOUR, founder, settle};

#[tokio::test]
async fn movements_are_those_of_the_period_and_no_more_than_fit() {
    let (wallet, clock) = founder(1_000).await;
    for (name, amount) in [("a", 5), ("b", 7), ("c", 9)] {
        clock.advance_ms(HOUR);
        settle(&wallet, name, amount).await;
    }
    let account = Account::Agent(main_agent());
    let last = wallet.moment().await.unwrap();
    clock.advance_ms(1);
    let now = wallet.moment().await.unwrap();
    let read = |from: u64, to: u64, most| {
        let period = (START.after_ms(from * HOUR), START.after_ms(to * HOUR), now);
        let found = wallet.movements(&account, period, most).unwrap();
        found.map(|found| {
            let balances = found.lines.iter().map(|(_, balance)| *balance);
            (found.opening, balances.collect::<Vec<_>>())
        })
    };
    let all = [trm(1_000), trm(995), trm(988), trm(979)];
    let whole = wallet
        .movements(
            &account,
            (Timestamp::EPOCH, START.after_ms(9 * HOUR), now),
            9,
        )
        .unwrap()
        .unwrap();
    assert!(whole.opening.is_zero());
    assert!(whole.lines.iter().map(|(_, balance)| balance).eq(&all));
    // No statement is about a time that has not come.
    assert_eq!(whole.to, START.after_ms(3 * HOUR + 1));
    // What the last moment has is not whole yet: more may be written in it.
    let before = wallet.movements(&account, (Timestamp::EPOCH, last, last), 9);
    assert_eq!(before.unwrap().unwrap().lines.len(), 3);
    let journal = wallet.journal_head().unwrap();
    assert_eq!((whole.size, whole.root), (journal.size, journal.root));
    // From a moment on, and before a moment.
    assert_eq!(read(2, 3, 9), Some((trm(995), vec![trm(988)])));
    assert_eq!(read(2, 4, 9), Some((trm(995), vec![trm(988), trm(979)])));
    assert_eq!(read(4, 5, 9), Some((trm(979), vec![])));
    // As many as fit, and not one more.
    assert_eq!(read(0, 4, 4), Some((trm(0), all.to_vec())));
    assert_eq!(read(0, 4, 3), None);
}

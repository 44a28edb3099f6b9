//! How much is made: within quotas for any part of the network, within a day's most whatever the hours, and
//! less a day the more was made.

use std::sync::LazyLock;

use proptest::prelude::*;
use tirami_manifest::Amount;
use tirami_manifest::chain::{Chain, Rejected, Step, after};
use tirami_manifest::genesis::Genesis;
use tirami_manifest::issuance::{day_budget, era, lent_in_a_day};
use tirami_manifest::signed::Signed;

use crate::world::{Pen, at, grant, id, key, shared, trm};

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// What is lent at most to one.
const LOAN: u64 = 10;

/// Each issuer with its quota in TRM and what it may make in a day. The quotas of two are so small that an
/// even share of years is less than a loan, and the third's so large that the network's daily cap decides.
const ISSUERS: [(u8, u64, u64); 3] = [
    (1, 35, LOAN),
    (4, 70, LOAN),
    (9, 21_000_000_000 - 105, 3 * LOAN),
];

fn genesis() -> Genesis {
    Genesis {
        issuers: ISSUERS.map(|(n, quota, _)| (id(n), trm(quota))).to_vec(),
        welcome_loan: trm(LOAN),
        welcome_daily_cap: trm(3 * LOAN),
        ..shared()
    }
}

/// An issuer's chain, and when it made how much.
struct Issuer {
    n: u8,
    pen: Pen,
    chain: Chain,
    now: u64,
    made: Vec<(u64, u64)>,
}

impl Issuer {
    fn new(genesis: &Genesis, n: u8) -> Self {
        let pen = Pen::new(genesis, n);
        let mut chain = Chain::new(genesis.clone(), id(n));
        chain.append(pen.last()).unwrap();
        Self {
            n,
            pen,
            chain,
            now: HOUR,
            made: Vec::new(),
        }
    }

    fn sum(&self) -> u64 {
        self.made.iter().map(|(_, made)| made).sum()
    }

    /// What was made in the day that ends at `now`.
    fn day(&self, now: u64) -> u64 {
        let late = self
            .made
            .iter()
            .filter(|(at, _)| *at <= now && now - at < DAY);
        late.map(|(_, made)| made).sum()
    }

    /// Tries to lend, and is refused exactly when it would be too much.
    fn lends(&mut self, principal: u64, invitation: u8, (quota, most): (u64, u64)) {
        let mut grant = grant(&self.pen.genesis, (self.n, 2), invitation);
        grant.body.principal = trm(principal);
        let grant = Box::new(Signed::new(grant.body, &key(self.n)));
        let mut entry = self.pen.next(Step::Mint(grant));
        entry.hlc = after(self.chain.hlc(), at(self.now));
        let before = self.chain.state().made;
        let taken = self.chain.append(&Signed::new(entry.clone(), &key(self.n)));
        let over_quota = self.sum() + principal > quota;
        match taken {
            Ok(_) => {
                assert!(principal <= LOAN && !over_quota);
                self.pen.put(entry);
                self.made.push((self.now, principal));
                assert!(self.day(self.now) <= most);
            }
            Err(Rejected::Loan(_)) => assert!(principal > LOAN),
            Err(Rejected::OverQuota { .. }) => assert!(over_quota),
            Err(Rejected::OverDay { .. }) => {
                assert!(!over_quota && self.day(self.now) + principal > most);
            }
            Err(other) => panic!("{other}"),
        }
        assert!(self.chain.state().made >= before);
        assert_eq!(self.chain.state().made, trm(self.sum()));
    }
}

/// Which issuer, how much, and how long after its last try.
fn tries() -> impl Strategy<Value = Vec<(usize, u64, u64)>> {
    let waits = vec![0, HOUR, 8 * HOUR, 12 * HOUR, DAY - 1, DAY, DAY + 1, 3 * DAY];
    let one = (0..ISSUERS.len(), 1..=LOAN + 1, prop::sample::select(waits));
    prop::collection::vec(one, 1..100)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_part_of_a_network_has_more_made_than_its_quotas(tries in tries()) {
        let genesis = genesis();
        let mut issuers = ISSUERS.map(|(n, ..)| Issuer::new(&genesis, n));
        for (invitation, (which, principal, wait)) in (0_u8..).zip(tries) {
            let (_, quota, most) = ISSUERS[which];
            issuers[which].now += wait;
            issuers[which].lends(principal, invitation, (quota, most));
        }
        // Whatever part of the issuers somebody has heard of, up to whatever entry.
        for part in 0..1_u8 << ISSUERS.len() {
            let heard = |which: usize| part >> which & 1 == 1;
            let in_it = (0..ISSUERS.len()).filter(|which| heard(*which));
            let (mut made, mut quotas) = (0, 0);
            for which in in_it {
                made += issuers[which].chain.state().made.utrm();
                quotas += genesis.quota(&id(ISSUERS[which].0)).utrm();
            }
            prop_assert!(made <= quotas && quotas <= Amount::MAX.utrm());
        }
        // In no 24 hours more than a day's most, wherever they begin.
        for (issuer, (_, _, most)) in issuers.iter().zip(ISSUERS) {
            for (from, _) in &issuer.made {
                prop_assert!(issuer.day(from + DAY - 1) <= most);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_048, failure_persistence: None, ..ProptestConfig::default() })]

    /// However much was made, a day brings between half and all of what an even share of four years of the
    /// rest would be; never more after more was made; and with the network's own limits never more than
    /// those.
    #[test]
    fn a_day_brings_a_share_of_what_is_left_and_ever_less(
        quota in 0..=Amount::MAX.utrm(), parts in any::<[u32; 2]>(), digits in 0..50_u32,
    ) {
        static NETWORK: LazyLock<Genesis> = LazyLock::new(genesis);
        let utrm = |n| Amount::from_utrm(n).unwrap();
        let quota = utrm(quota >> digits);
        let share = |part: u32| u128::from(quota.utrm()) * u128::from(part) / u128::from(u32::MAX);
        let mut made = parts.map(|part| utrm(u64::try_from(share(part)).unwrap()));
        made.sort_unstable();
        for made in made {
            let left = quota.utrm() - made.utrm();
            let day = day_budget(quota, made).utrm();
            prop_assert!(day <= left.div_ceil(1_461), "{quota} {made}");
            prop_assert!(day >= (left / 2).div_ceil(1_461), "{quota} {made}");
            let most = lent_in_a_day(&NETWORK, quota, made);
            prop_assert!(most <= trm(3 * LOAN) && most >= utrm(day).min(trm(3 * LOAN)));
        }
        prop_assert!(era(quota, made[0]) <= era(quota, made[1]));
        prop_assert!(day_budget(quota, made[0]) >= day_budget(quota, made[1]));
    }
}

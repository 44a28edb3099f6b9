//! The owner's orders, byte by byte, and the terms of a mandate inside them.
//!
//! The vectors were made by a second implementation that knows only the layout.

use std::collections::BTreeSet;

use tirami_manifest::bytes::DecodeError;
use tirami_manifest::mandate::{
    Action, Breakers, Limits, List, Pot, PotRule, QuietHours, Scope, Terms,
};
use tirami_manifest::owner::{Decision, OwnerOrder};
use tirami_manifest::signed::Document;
use tirami_manifest::{AgentId, ApprovalId, ModelId, NodeId, Timestamp};

use super::{PROVIDER, Vector, check, consumer, provider, utrm};

const ORDER_SET_TERMS: Vector = Vector {
    body: &[
        "01",                                                               // version
        PROVIDER,                                                           // node
        "0100000000000000",                                                 // number
        "01",                                                               // decision: set terms
        "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",                                 // agent
        "0100000000000000", // per request, micro-TRM
        "01",               // minute: set
        "0200000000000000", // minute
        "0300000000000000", // hour
        "01",               // day: set
        "0400000000000000", // day
        "0500000000000000", // lifetime
        "01",               // payee day: set
        "0600000000000000", // payee day
        "01",               // in flight: set
        "0700000000000000", // in flight
        "0800000000000000", // reserve
        "01",               // price ceiling: set
        "0900000000000000", // price ceiling
        "01",               // approval above: set
        "0a00000000000000", // approval above
        "01",               // payees allowed: only these
        "02",               // payees allowed
        "1111111111111111111111111111111111111111111111111111111111111111", // payee
        "2222222222222222222222222222222222222222222222222222222222222222", // payee
        "01",               // payees denied
        "3333333333333333333333333333333333333333333333333333333333333333", // payee
        "01",               // actions allowed: only these
        "01",               // actions allowed
        "01",               // action: chat
        "01",               // actions denied
        "02",               // action: local chat
        "01",               // models allowed: only these
        "00",               // models allowed: none
        "01",               // models denied
        "4444444444444444444444444444444444444444444444444444444444444444", // model
        "01000000",         // errors in a row
        "02000000",         // spends per minute
        "03000000",         // same request
        "01",               // quiet hours: set
        "2805",             // from 22:00
        "a401",             // to 07:00
        "a6ff",             // minutes ahead of UTC
        "01",               // expires: set
        "0068e5cf8b010000", // expires, ms
        "02",               // pot rules
        "01",               // for action: chat
        "01",               // for payee: set
        "1111111111111111111111111111111111111111111111111111111111111111", // payee
        "01",               // for model: set
        "4444444444444444444444444444444444444444444444444444444444444444", // model
        "02",               // pots
        "04",               // pot: restricted
        "01",               // pot: seed
        "00",               // for action: any
        "00",               // for payee: any
        "00",               // for model: any
        "02",               // pots
        "02",               // pot: earned
        "03",               // pot: borrowed
    ],
    digest: "a2cf48a192be531ce61d6b98bf5e62db9f87eb8c5f0d635354295dc46d56ab71",
    signature: "2cd51081f568ca3ec87473d84377c95eefea9f22066b59822a7abd20320b0cbd56e1a99cb179d7000d0ed48b497ca669a6cbfcffaa6f5cf68e978221505fc207",
};

const ORDER_UNFREEZE: Vector = Vector {
    body: &[
        "01",               // version
        PROVIDER,           // node
        "0200000000000000", // number
        "02",               // decision: unfreeze
    ],
    digest: "54a5d4b5e5c9903964becef858760056a5592ffbbfb0b7e8c6904e4905b8865e",
    signature: "ae339dd93e0f6ed6456bfc3ca13db433329485f23a6715bf5557d16980825b9a21c245bcb470f31f7f404cc756aeef0a589b286ed4d46263ee7b711b3875e209",
};

const ORDER_CREATE_TOKEN: Vector = Vector {
    body: &[
        "01",                                                               // version
        PROVIDER,                                                           // node
        "0300000000000000",                                                 // number
        "03",           // decision: create token
        "06000000",     // bytes of agent name
        "656469746f72", // agent name
        "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc", // token hash
    ],
    digest: "7af527d03274b25f0285fc9b302bbc206b41312ba9422150613f113c5ece54d7",
    signature: "56fad9bac4d8a18c511506c8295825219221194f5ee644be738dea4eaa070ed6dbd61e562bd502b253ae7485637a19855bf104d4044e15cb03dd9d2286ae1908",
};

const ORDER_REVOKE_TOKEN: Vector = Vector {
    body: &[
        "01",                                                               // version
        PROVIDER,                                                           // node
        "0400000000000000",                                                 // number
        "04", // decision: revoke token
        "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc", // token hash
    ],
    digest: "ac2f87f956b0e4049fa01d6d614f6c76739dbc5ea2deeea2f9d09dc4f8dc4f84",
    signature: "34533d1f586d4a05ecfc156dba7d6a4843fa719b91c1ace63cd2c450c00562cd398fbb91e10245b06f21709b44785cea02d962415a29a0fc4594a2ca1b50df08",
};

const ORDER_GRANT: Vector = Vector {
    body: &[
        "01",               // version
        PROVIDER,           // node
        "0500000000000000", // number
        "05",               // decision: grant
        "06000000",         // bytes of agent name
        "656469746f72",     // agent name
        "00",               // parent: the owner
        "0100000000000000", // per request, micro-TRM
        "00",               // minute: no limit
        "0200000000000000", // hour
        "00",               // day: no limit
        "0300000000000000", // lifetime
        "00",               // payee day: no limit
        "00",               // in flight: no limit
        "0000000000000000", // reserve
        "00",               // price ceiling: none
        "00",               // approval above: never
        "00",               // payees allowed: all
        "00",               // payees denied: none
        "00",               // actions allowed: all
        "00",               // actions denied: none
        "00",               // models allowed: all
        "00",               // models denied: none
        "05000000",         // errors in a row
        "1e000000",         // spends per minute
        "0a000000",         // same request
        "00",               // quiet hours: none
        "00",               // expires: never
        "00",               // pot rules: none
    ],
    digest: "752ffc2e398de007f609b300b945bb0a4646bcfbf3d926ade95224561a5d46c7",
    signature: "8a53b2b356584a4e71f0cf341f90f8142b5408b8f35816aabf7c8046d0754979edf187e691ec9a0b6c51fe66c73c078837fc53466847a1131ea7f023ad074705",
};

const ORDER_GRANT_BELOW: Vector = Vector {
    body: &[
        "01",                               // version
        PROVIDER,                           // node
        "0600000000000000",                 // number
        "05",                               // decision: grant
        "06000000",                         // bytes of agent name
        "656469746f72",                     // agent name
        "01",                               // parent: an agent
        "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", // parent
        "0100000000000000",                 // per request, micro-TRM
        "00",                               // minute: no limit
        "0200000000000000",                 // hour
        "00",                               // day: no limit
        "0300000000000000",                 // lifetime
        "00",                               // payee day: no limit
        "00",                               // in flight: no limit
        "0000000000000000",                 // reserve
        "00",                               // price ceiling: none
        "00",                               // approval above: never
        "00",                               // payees allowed: all
        "00",                               // payees denied: none
        "00",                               // actions allowed: all
        "00",                               // actions denied: none
        "00",                               // models allowed: all
        "00",                               // models denied: none
        "05000000",                         // errors in a row
        "1e000000",                         // spends per minute
        "0a000000",                         // same request
        "00",                               // quiet hours: none
        "00",                               // expires: never
        "00",                               // pot rules: none
    ],
    digest: "ae7777747736042f191f5b7a02d437ac2f71c55c27ee499ceedd064f0a1107bd",
    signature: "99e664aad95c52aec28594e4b2ee855f8ba2b004912a4705a9e40aa493f17148bd33c46c8831236e043c0443cbea05342f57fa95df81f18e8c6ef6d04d585b0e",
};

const ORDER_APPROVE: Vector = Vector {
    body: &[
        "01",                               // version
        PROVIDER,                           // node
        "0700000000000000",                 // number
        "06",                               // decision: approve
        "dddddddddddddddddddddddddddddddd", // approval
        "4100000000000000",                 // amount, micro-TRM
    ],
    digest: "9e3c4750417ae36dbf754bb775f32a6e5bb05580089001a8ea25b8ad7ec98912",
    signature: "7452a6bb3cba8161e1b8459da5f3d622ad5b543fe1b67ad914e3d8952524905ce3339b09dc93f05745d66d209ca01f71bfaf897e3803187c9a5ee217fb337e01",
};

const ORDER_FUND: Vector = Vector {
    body: &[
        "01",                               // version
        PROVIDER,                           // node
        "0800000000000000",                 // number
        "07",                               // decision: fund
        "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", // from
        "03",                               // from pot: borrowed
        "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee", // to
        "04",                               // to pot: restricted
        "4100000000000000",                 // amount, micro-TRM
    ],
    digest: "010735a7e94e53a5feca0d2e82f5a767db0648a40018fb9b18439533ca9dedb2",
    signature: "6a3d4d33d73083668e647556ad5077e0a7ddd7342b184816f16839527c3750bb15cce306a6fac9d67ed6bf16465fe18fa206e7d45fc8bee6ebaaf0c24727e509",
};

fn order(number: u64, decision: Decision) -> OwnerOrder {
    OwnerOrder {
        node: provider().id(),
        number,
        decision,
    }
}

fn agent(n: u8) -> AgentId {
    AgentId::from_bytes([n; 16])
}

/// Every term says something.
fn full() -> Terms {
    let payee = |n| NodeId::from_bytes([n; 32]);
    let model = ModelId::from_bytes([0x44; 32]);
    Terms {
        limits: Limits {
            per_request_trm: utrm(1),
            minute_trm: Some(utrm(2)),
            hour_trm: utrm(3),
            day_trm: Some(utrm(4)),
            lifetime_trm: utrm(5),
            payee_day_trm: Some(utrm(6)),
            in_flight: Some(7),
            reserve_trm: utrm(8),
            price_ceiling_trm: Some(utrm(9)),
            approval_above_trm: Some(utrm(10)),
        },
        scope: Scope {
            payees: List {
                allow: Some([payee(0x11), payee(0x22)].into()),
                deny: [payee(0x33)].into(),
            },
            actions: List {
                allow: Some([Action::Chat].into()),
                deny: [Action::LocalChat].into(),
            },
            models: List {
                allow: Some(BTreeSet::new()),
                deny: [model].into(),
            },
        },
        breakers: Breakers {
            errors_in_row: 1,
            spends_per_minute: 2,
            same_request: 3,
        },
        quiet_hours: Some(QuietHours {
            from_minute: 22 * 60,
            to_minute: 7 * 60,
            utc_offset_minutes: -90,
        }),
        expires: Some(Timestamp::from_ms(1_700_000_000_000)),
        pots: vec![
            PotRule {
                action: Some(Action::Chat),
                payee: Some(payee(0x11)),
                model: Some(model),
                pots: vec![Pot::Restricted, Pot::Seed],
            },
            PotRule::only(vec![Pot::Earned, Pot::Borrowed]),
        ],
    }
}

/// Only the three figures that every mandate has.
fn plain() -> Terms {
    Terms::of(Limits {
        per_request_trm: utrm(1),
        hour_trm: utrm(2),
        lifetime_trm: utrm(3),
        approval_above_trm: None,
        ..Limits::DEFAULT
    })
}

fn grant(parent: Option<AgentId>) -> Decision {
    Decision::Grant {
        agent_name: "editor".into(),
        parent,
        terms: Box::new(plain()),
    }
}

#[test]
fn every_order_has_its_golden_bytes() {
    let set_terms = Decision::SetTerms {
        agent: agent(0xbb),
        terms: Box::new(full()),
    };
    check(order(1, set_terms), &consumer(), &ORDER_SET_TERMS);
    check(order(2, Decision::Unfreeze), &consumer(), &ORDER_UNFREEZE);
    let create = Decision::CreateToken {
        agent_name: "editor".into(),
        token_hash: [0xcc; 32],
    };
    check(order(3, create), &consumer(), &ORDER_CREATE_TOKEN);
    let revoke = Decision::RevokeToken {
        token_hash: [0xcc; 32],
    };
    check(order(4, revoke), &consumer(), &ORDER_REVOKE_TOKEN);
    check(order(5, grant(None)), &consumer(), &ORDER_GRANT);
    let below = grant(Some(agent(0xbb)));
    check(order(6, below), &consumer(), &ORDER_GRANT_BELOW);
    let approve = Decision::Approve {
        approval: ApprovalId::from_bytes([0xdd; 16]),
        amount: utrm(65),
    };
    check(order(7, approve), &consumer(), &ORDER_APPROVE);
    let fund = Decision::Fund {
        from: agent(0xbb),
        from_pot: Pot::Borrowed,
        to: agent(0xee),
        to_pot: Pot::Restricted,
        amount: utrm(65),
    };
    check(order(8, fund), &consumer(), &ORDER_FUND);
}

/// Each is the golden order with one field changed to what cannot be.
#[test]
fn an_order_with_a_field_that_cannot_be_does_not_read() {
    let more_than_any = "ffffffffffffffff";
    let cases: &[(&Vector, usize, &str, &str)] = &[
        (&ORDER_SET_TERMS, 3, "08", "decision"),
        (&ORDER_SET_TERMS, 5, more_than_any, "per request"),
        (&ORDER_SET_TERMS, 6, "02", "minute"),
        (&ORDER_SET_TERMS, 7, more_than_any, "minute"),
        (&ORDER_SET_TERMS, 8, more_than_any, "hour"),
        (&ORDER_SET_TERMS, 10, more_than_any, "day"),
        (&ORDER_SET_TERMS, 11, more_than_any, "lifetime"),
        (&ORDER_SET_TERMS, 13, more_than_any, "payee day"),
        (&ORDER_SET_TERMS, 15, "0000000001000000", "in flight"),
        (&ORDER_SET_TERMS, 16, more_than_any, "reserve"),
        (&ORDER_SET_TERMS, 18, more_than_any, "price ceiling"),
        (&ORDER_SET_TERMS, 20, more_than_any, "approval above"),
        (&ORDER_SET_TERMS, 21, "02", "payees"),
        (&ORDER_SET_TERMS, 22, "41", "payees"),
        // The second payee equal to the first: one set has one layout.
        (&ORDER_SET_TERMS, 24, &"11".repeat(32), "payees"),
        (&ORDER_SET_TERMS, 24, &"10".repeat(32), "payees"),
        (&ORDER_SET_TERMS, 29, "00", "action"),
        (&ORDER_SET_TERMS, 31, "03", "action"),
        (&ORDER_SET_TERMS, 38, "21000000", "same request"),
        (&ORDER_SET_TERMS, 39, "02", "quiet hours"),
        (&ORDER_SET_TERMS, 40, "a005", "quiet hours"),
        (&ORDER_SET_TERMS, 41, "2805", "quiet hours"),
        (&ORDER_SET_TERMS, 42, "4903", "quiet hours"),
        (&ORDER_SET_TERMS, 43, "02", "expires"),
        (&ORDER_SET_TERMS, 46, "03", "action"),
        (&ORDER_SET_TERMS, 47, "02", "pots"),
        (&ORDER_SET_TERMS, 51, "41", "pots"),
        (&ORDER_SET_TERMS, 53, "04", "pots"),
        (&ORDER_SET_TERMS, 53, "05", "pots"),
        (&ORDER_GRANT_BELOW, 6, "02", "parent"),
        (&ORDER_APPROVE, 5, more_than_any, "amount"),
        (&ORDER_FUND, 5, "00", "pot"),
        (&ORDER_FUND, 7, "05", "pot"),
        (&ORDER_FUND, 8, more_than_any, "amount"),
    ];
    for (vector, place, with, named) in cases {
        let mut fields = vector.body.to_vec();
        let field = fields.get_mut(*place).expect("the vector has it");
        assert_eq!(field.len(), with.len(), "field {place}");
        *field = with;
        let read = OwnerOrder::from_bytes(&unhex(&fields.concat()));
        let refused = DecodeError::Value(named);
        assert_eq!(read, Err(refused), "field {place} as {with}");
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    let byte = |pair| {
        std::str::from_utf8(pair)
            .ok()
            .and_then(|two| u8::from_str_radix(two, 16).ok())
    };
    pairs.iter().filter_map(|pair| byte(pair)).collect()
}

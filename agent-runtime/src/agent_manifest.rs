//! This node's manifest: who it is, where it can be reached, what it sells.

use tirami_manifest::Multiplier;
use tirami_manifest::agent::{
    AgentManifest, Currency, Endpoint, ManifestError, ModelOffer, PriceInputs, VALID_MS,
};
use tirami_manifest::model::Usage;

use crate::failure::{Failure, FailureCode};
use crate::offers;
use crate::runtime::Runtime;
use crate::selling::{self, Bounds};

/// The manifest, signed, as it is served.
pub(crate) fn signed(runtime: &Runtime) -> Result<String, Failure> {
    manifest(runtime)
        .to_signed_json(&runtime.inner.key)
        .map_err(|e: ManifestError| Failure::new(FailureCode::Internal, e.to_string()))
}

fn manifest(runtime: &Runtime) -> AgentManifest {
    // A manifest is the same for everyone who asks within an hour: a reader's cache stays good.
    const HOUR_MS: u64 = 3_600_000;
    let issued = runtime.now().ms() / HOUR_MS * HOUR_MS;
    let mut endpoints: Vec<Endpoint> = runtime
        .addresses()
        .iter()
        .map(|address| Endpoint {
            kind: "iroh".to_owned(),
            url: format!("iroh:{}?alpn=tirami/1&address={address}", runtime.node()),
        })
        .collect();
    if let Some(http) = &runtime.inner.config.http {
        endpoints.push(Endpoint {
            kind: "openai".to_owned(),
            url: format!("{http}/v1"),
        });
        endpoints.push(Endpoint {
            kind: "rest".to_owned(),
            url: format!("{http}/v1/tirami"),
        });
    }
    // What it asks at least and at most; between them the price moves with what there is to do.
    let Bounds {
        floor_ppm,
        ceiling_ppm,
    } = selling::bounds(runtime);
    let offers = offers::own(runtime, Multiplier::from_ppm(floor_ppm))
        .into_iter()
        .filter_map(|offer| {
            let (card, multiplier) = (offer.card, offer.multiplier);
            let hundred = Usage {
                tokens_in: 100,
                tokens_cached: 0,
                tokens_out: 100,
            };
            Some(ModelOffer {
                model: offer.name,
                model_id: card.id,
                context: card.context,
                multiplier_ppm: multiplier.ppm(),
                multiplier_max_ppm: (ceiling_ppm > floor_ppm).then_some(ceiling_ppm),
                trm_per_100_in_100_out: card.price(hundred, multiplier).ok()?,
                price_inputs: PriceInputs {
                    block_weights: card.block_weights.to_string(),
                    head_weights: card.head_weights.to_string(),
                    attention_flop: card.attention_flop.to_string(),
                    window: card.window,
                },
            })
        })
        .collect();
    AgentManifest {
        schema_version: "1.0".to_owned(),
        protocol: "tirami/1".to_owned(),
        node_id: runtime.node(),
        network_id: runtime.genesis().id(),
        issued_at_ms: issued.to_string(),
        expires_at_ms: issued.saturating_add(VALID_MS).to_string(),
        currency: Currency {
            unit: "TRM".to_owned(),
            anchor_flops_per_unit: "1000000000".to_owned(),
            decimals: 6,
        },
        endpoints,
        offers,
    }
}

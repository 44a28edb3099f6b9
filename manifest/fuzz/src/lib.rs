//! What the targets share: inputs to begin with, made from the golden vectors.

use std::collections::BTreeMap;
use std::path::PathBuf;

macro_rules! file {
    ($folder:literal, $name:literal) => {
        (
            $name,
            include_str!(concat!("../../tests/files/", $folder, "/", $name)),
        )
    };
}

/// The files that hold the vectors.
const VECTORS: [&str; 3] = [
    include_str!("../../tests/golden.rs"),
    include_str!("../../tests/golden/owner.rs"),
    include_str!("../../tests/golden/travelling.rs"),
];

/// The golden files: name and text, those that hold first, then the forged ones.
pub const FILES: [(&str, &str); 29] = [
    file!("valid", "issuer.chain"),
    file!("valid", "member.chain"),
    file!("valid", "seller.chain"),
    file!("valid", "claimed.chain"),
    file!("valid", "claim.json"),
    file!("valid", "arithmetic.json"),
    file!("valid", "balance.json"),
    file!("valid", "double-agreement.json"),
    file!("valid", "fork.json"),
    file!("valid", "inclusion.json"),
    file!("valid", "receipt.json"),
    file!("valid", "voucher.json"),
    file!("valid", "statement.json"),
    file!("valid", "anchored.json"),
    file!("valid", "mandate.txt"),
    file!("forged", "altered-balance.chain"),
    file!("forged", "backdating.chain"),
    file!("forged", "foreign-network.chain"),
    file!("forged", "fork.chain"),
    file!("forged", "claimed-again.chain"),
    file!("forged", "claim-above-voucher.chain"),
    file!("forged", "hidden-top-up.chain"),
    file!("forged", "over-quota-mint.chain"),
    file!("forged", "replayed-receipt.chain"),
    file!("forged", "self-trade.chain"),
    file!("forged", "statement-line-altered.json"),
    file!("forged", "statement-top-up.json"),
    file!("forged", "truncated-log.chain"),
    file!("forged", "wash-ring.chain"),
];

/// The bytes that stand in a file under this name, in each object of it.
pub fn bytes_in(text: &str, name: &str) -> Vec<Vec<u8>> {
    let quoted = format!("\"{name}\":");
    let after = text.split(&quoted).skip(1);
    after
        .filter_map(|rest| tirami_manifest::id::hex_bytes(rest.split('"').nth(1)?))
        .collect()
}

/// A golden document.
#[derive(Clone, Debug)]
pub struct Golden {
    /// The unsigned body.
    pub body: Vec<u8>,
    /// The signature over it.
    pub signature: Vec<u8>,
}

impl Golden {
    /// Body, then signature.
    pub fn signed(&self) -> Vec<u8> {
        [self.body.as_slice(), &self.signature].concat()
    }
}

/// The golden vectors by the name of their constant, and every other golden text.
pub fn golden() -> (BTreeMap<String, Golden>, BTreeMap<String, String>) {
    let (mut documents, mut texts) = (BTreeMap::new(), BTreeMap::new());
    let code: String = VECTORS
        .iter()
        .flat_map(|file| file.lines())
        .map(|line| line.split("//").next().unwrap_or(line))
        .collect();
    let constants: Vec<_> = code
        .split("const ")
        .skip(1)
        .filter_map(|rest| rest.split_once(": "))
        .collect();
    for (name, rest) in &constants {
        if let Some(text) = rest.strip_prefix("&str =") {
            let text = text.split('"').nth(1).expect("a text");
            texts.insert((*name).to_owned(), text.to_owned());
        }
    }
    for (name, rest) in constants {
        let Some(vector) = rest.trim_start().strip_prefix("Vector = Vector {") else {
            continue;
        };
        let (body, rest) = vector.split_once(']').expect("a body");
        let (_, body) = body.split_once('[').expect("a body");
        let hex: String = body
            .split(',')
            .map(|item| match item.trim() {
                item if item.starts_with('"') => item.trim_matches('"').to_owned(),
                "" => String::new(),
                item => texts.get(item).expect("a constant").clone(),
            })
            .collect();
        let (_, signature) = rest.split_once("signature: \"").expect("a signature");
        let signature = signature.split('"').next().expect("a text");
        let golden = Golden {
            body: unhex(&hex),
            signature: unhex(signature),
        };
        documents.insert(name.to_owned(), golden);
    }
    assert!(documents.len() >= 15, "only {} vectors", documents.len());
    (documents, texts)
}

/// The bytes of hexadecimal digits.
pub fn unhex(hex: &str) -> Vec<u8> {
    tirami_manifest::id::hex_bytes(hex).expect("hexadecimal")
}

/// Writes the inputs to begin with into the folder that `TIRAMI_FUZZ_SEEDS` names, if it does.
pub fn write_seeds(seeds: impl IntoIterator<Item = Vec<u8>>) {
    let Some(folder) = std::env::var_os("TIRAMI_FUZZ_SEEDS").map(PathBuf::from) else {
        return;
    };
    for (number, seed) in seeds.into_iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed).expect("a folder to write to");
    }
}

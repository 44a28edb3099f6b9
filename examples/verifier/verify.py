#!/usr/bin/env python3
"""Checks files of Tirami offline. Written from docs/protocol.md alone; needs `cryptography`."""
import base64
import hashlib
import json
import re
import sys
from datetime import datetime, timedelta
from types import SimpleNamespace
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

CAP, MAX_DOCUMENT, DAY_MS = 21 * 10**15, 4096, 24 * 60 * 60 * 1000
SCALARS = 2**252 + 27742317777372353535851937790883648493
# The points of small order, the sign bit cleared; the last two are not canonical.
SMALL_ORDER = {bytes.fromhex(text) for text in (
    "00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f", "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")}
# name:kind=allowed; a kind is so many bytes, an integer, or one of Reader.KINDS.
LAYOUTS = {
    "quote": "version:u8=1 network:32 provider:32 consumer:32 model:32 block:u64 head:u64 "
             "attention:u64 card_window:u32 context:u32 multiplier:u32 max_in:u32 max_out:u32 "
             "max_amount:amount chunk:u16 window:u16 issued:u64 expires:u64 nonce:16",
    "agreement": "version:u8=1 network:32 kind:u16=1 provider:32 consumer:32 nonce:16 quote:32 "
                 "ledger:u8=1 hold:16 model:32 tokens_in:u32 cached:u32 tokens_out:u32 kflop:u64 "
                 "multiplier:u32 earlier:u64=0 amount:amount transcript:32 seed:u64 "
                 "temperature:u32 top_k:u32 lane:u32=0 voucher:u32 audit:u8=0|1 engine:8 "
                 "started:u64 ended:u64 finish:u8=1|2|3",
    "receipt": "version:u8=1 quote:blob agreement:blob by_provider:64 by_consumer:64",
    "genesis": "version:u8=1 name:name founded:u64 nonce:16 issuers:issuers witnesses:witnesses "
               "price:u32 welcome:amount term:u64 daily:amount",
    "loan-grant": "version:u8=1 network:32 issuer:32 borrower:32 invitation:16 principal:amount "
                  "granted:u64 due:u64",
    "voucher": "version:u8=1 network:32 hold:16 lane:u32 payee:32 seq:from_1_u32 total:amount "
               "tokens:u32 transcript:32",
    "grant": "version:u8=1 network:32 root:32 parent:32 serial:u64 lo:u64 hi:amount holder:32 "
             "pinned:maybe_32 per_request:u64 ceiling:maybe_u32 actions:u32=1 models:ids "
             "payees:ids expires:u64 epoch:u64 depth:u8",
    "entry": "version:u8=1 type:u16=1|2|3|13|15|41|50|51|52 flags:u16=0|1 network:32 author:32 "
             "seq:from_1_u64 prev:32 time:u64 spendable:amount held:amount staked:amount "
             "log_root:32 payload:blob",
    "cert": "version:u8=1 network:32 epoch:u64=0 author:32 seq:u64 entry:32",
    "fraud": "version:u8=1 network:32 kind:u16=1|2|3|4 accused:32 first:blob second:blob"}
PAYLOADS = {
    1: ("genesis", "successor:32 before:maybe_before"), 2: ("checkpoint", "digest:32"),
    3: ("succession", "key:32"),
    13: ("trade", "payer:32 agreement:agreement by_provider:64 by_consumer:64"),
    15: ("receive", "payer:32 receipt:32 amount:amount entry:32"),
    41: ("repay", "other:32 invitation:16 amount:amount receipt:32"), 50: ("mint", "grant:loan"),
    51: ("borrow", "grant:loan"), 52: ("retire", "other:32 invitation:16 amount:amount receipt:32")}
FRAUDS = {1: "fork", 2: "arithmetic", 3: "voucher_contradiction", 4: "double_agreement"}

class Invalid(Exception):
    """Why a file is refused."""

class Missing(Invalid):
    """Another file has to be read first."""

def need(holds, reason):
    """Refuses with the reason unless the condition holds."""
    if not holds:
        raise Invalid(reason)

def sha(data):
    """SHA-256 as bytes."""
    return hashlib.sha256(data).digest()

class Reader:
    """Reads a fixed layout and refuses whatever does not fit it."""

    KINDS = {
        "amount": lambda self: self.uint(8, CAP),
        "blob": lambda self: self.take(self.uint(4, MAX_DOCUMENT)),
        "name": lambda self: self.take(self.uint(4, 64)).decode(),
        "before": lambda self: self.fields("author:32 seq:u64 entry:32"),
        "ids": lambda self: self.ascending([self.take(32) for _ in range(self.uint(4, 8))]),
        "issuers": lambda self: [(self.take(32), self.read("amount"))
                                 for _ in range(self.uint(4, 64))],
        "witnesses": lambda self: [self.take(32) for _ in range(self.uint(4, 64))],
        "agreement": lambda self: self.document("agreement", signed=False),
        "loan": lambda self: self.document("loan-grant", signed=True)}

    def __init__(self, data, what):
        """Starts at the first byte; `what` names the document in refusals."""
        self.data, self.what, self.pos = data, what, 0

    def take(self, count):
        """The next bytes."""
        need(self.pos + count <= len(self.data), f"{self.what}: too short")
        self.pos += count
        return self.data[self.pos - count:self.pos]

    def uint(self, size, limit=2**64):
        """The next little-endian integer, if it is not above the limit."""
        number = int.from_bytes(self.take(size), "little")
        need(number <= limit, f"{self.what}: {number} is above {limit}")
        return number

    def ascending(self, ids):
        """The ids, if they ascend and none stands twice."""
        need(ids == sorted(set(ids)), f"{self.what}: a list is not in ascending order")
        return ids

    def read(self, kind):
        """One value of a kind named in a layout."""
        if kind.startswith("maybe_"):
            return self.read(kind.removeprefix("maybe_")) if self.uint(1, 1) else None
        if kind.startswith("from_1_"):
            number = self.read(kind.removeprefix("from_1_"))
            need(number, f"{self.what}: a number is 0")
            return number
        if kind[0] == "u":
            return self.uint(int(kind[1:]) // 8)
        return self.take(int(kind)) if kind.isdigit() else self.KINDS[kind](self)

    def fields(self, layout):
        """All values of a layout, by name."""
        found = SimpleNamespace()
        for field in layout.split():
            name, kind, allowed = re.fullmatch(r"(\w+):(\w+)=?(.*)", field).groups()
            value = self.read(kind)
            need(not allowed or str(value) in allowed.split("|"), f"{self.what}: {name} is {value}")
            setattr(found, name, value)
        return found

    def document(self, kind, signed):
        """A document with its id and, if it is signed, its signature."""
        start = self.pos
        found = self.fields(LAYOUTS[kind])
        found.id = sha(f"trm/v1/{kind}\0".encode() + self.data[start:self.pos])
        found.signature = self.take(64) if signed else None
        return found

    def end(self):
        """Refuses bytes left over."""
        need(self.pos == len(self.data), f"{self.what}: bytes left over")

def parse(kind, data, signed):
    """A whole document of one kind."""
    need(not signed or len(data) <= MAX_DOCUMENT, f"{kind}: longer than {MAX_DOCUMENT} bytes")
    reader = Reader(data, kind)
    found = reader.document(kind, signed)
    reader.end()
    return found

def parse_genesis(text):
    """A network's first document, whose quotas have to give the supply cap."""
    genesis = parse("genesis", unhex(text, "genesis"), signed=False)
    genesis.quotas, witnesses = dict(genesis.issuers), genesis.witnesses
    twice = len(set(witnesses)) < len(witnesses) or len(genesis.quotas) < len(genesis.issuers)
    need(witnesses and not twice, "genesis: no witness, or a node that stands twice")
    need(sum(genesis.quotas.values()) == CAP, "genesis: the quotas do not give the supply cap")
    return genesis

def parse_entry(data):
    """A signed entry and its payload, `step`."""
    entry = parse("entry", data, signed=True)
    entry.name, layout = PAYLOADS[entry.type]
    reader = Reader(entry.payload, f"payload of {entry.name}")
    entry.step = reader.fields(layout)
    reader.end()
    return entry

def check_signature(document, key, who, signature=None):
    """Ed25519 as `verify_strict` does it."""
    signature = signature or document.signature
    points = {part[:31] + bytes([part[31] & 127]) for part in (key, signature[:32])}
    holds = int.from_bytes(signature[32:], "little") < SCALARS and not points & SMALL_ORDER
    try:
        need(holds, f"the signature of the {who} is not strict")
        Ed25519PublicKey.from_public_bytes(key).verify(signature, b"trm/v1/sig\0" + document.id)
    except (InvalidSignature, ValueError):
        raise Invalid(f"the signature of the {who} does not hold") from None

def price(work):
    """Micro-TRM for the work of an agreement."""
    return -(-work.kflop * work.multiplier // 10**6)

def attended(count, window):
    """The sum of min(t, window) for t = 1 to count; without the min when window is 0."""
    short = min(count, window) if window else count
    return short * (short + 1) // 2 + (count - short) * window

def nominal_kflop(quote, work):
    """Thousands of FLOP for the tokens of an agreement, rounded up."""
    before, out, window = work.tokens_in, work.tokens_out, quote.card_window
    seen = attended(before, window) - attended(work.cached, window)
    seen += attended(max(0, before + out - 1), window) - attended(max(0, before - 1), window)
    rows = max(0, before - work.cached + out - (out > 0))
    flop = 2 * quote.block * rows + 2 * quote.head * out + quote.attention * seen
    return -(-flop // 1000)

def trm(micro):
    """An amount in words."""
    return f"{micro // 10**6}.{micro % 10**6:06}".rstrip("0").rstrip(".")

def at(hybrid):
    """The milliseconds of a hybrid time in words."""
    need(hybrid >> 16 < 253402300800000, "a time is after the year 9999")
    moment = datetime(1970, 1, 1) + timedelta(milliseconds=hybrid >> 16)
    return moment.isoformat(timespec="milliseconds") + "Z"

def refuse_number(text):
    """Refuses a number that is not an integer."""
    raise Invalid(f"the number {text} is not an integer")

def unique(pairs):
    """An object of JSON in which no name stands twice."""
    need(len(dict(pairs)) == len(pairs), "a name stands twice in an object")
    return dict(pairs)

def load(text):
    """An object of JSON without floats and without names that stand twice."""
    try:
        words = json.loads(text, object_pairs_hook=unique, parse_float=refuse_number,
                           parse_constant=refuse_number)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"not JSON: {error}") from None
    need(type(words) is dict, "not an object of JSON")
    return words

def check_names(words, names, optional=()):
    """Refuses an object that has other names than these."""
    need(type(words) is dict, "not an object of JSON")
    for name in names:
        need(name in words, f"{name} is missing")
    for name in words:
        need(name in names or name in optional, f"unknown field {name}")

def check_words(words, truth):
    """Refuses words that say something else than the bytes; all and only these have to stand."""
    check_names(words, truth)
    for name, value in truth.items():
        same = type(words[name]) is type(value) and words[name] == value
        need(same, f"{name} says something else than the bytes")

def unhex(value, what):
    """Bytes from lower-case hexadecimal."""
    holds = type(value) is str and re.fullmatch("(?:[0-9a-f]{2})*", value)
    need(holds, f"{what} is not lower-case hexadecimal")
    return bytes.fromhex(value)

def check_receipt(words, _):
    """A receipt: quote, agreement, both signatures, and whatever words stand beside them."""
    data = unhex(words.get("signed"), "signed")
    need(len(data) <= MAX_DOCUMENT, "receipt: too long")
    receipt = parse("receipt", data, signed=False)
    quote = parse("quote", receipt.quote, signed=True)
    work = parse("agreement", receipt.agreement, signed=False)
    check_signature(quote, quote.provider, "quote's provider")
    need(work.quote == quote.id, "the agreement is not under this quote")
    for name in ("network", "provider", "consumer", "model", "multiplier"):
        need(getattr(work, name) == getattr(quote, name), f"{name} differs from the quote's")
    need(work.cached <= work.tokens_in, "more tokens cached than there were")
    need(work.tokens_in <= quote.max_in and work.tokens_out <= quote.max_out, "too many tokens")
    need(work.kflop == nominal_kflop(quote, work), "kFLOP is not what the tokens give")
    need(work.amount == price(work) <= quote.max_amount, "amount is wrong or above the quote's")
    check_signature(work, work.provider, "provider", receipt.by_provider)
    check_signature(work, work.consumer, "consumer", receipt.by_consumer)
    truth = {"network": work.network.hex(), "provider": work.provider.hex(),
             "consumer": work.consumer.hex(), "model_id": work.model.hex(), "kflop": work.kflop,
             "tokens_in": work.tokens_in, "tokens_cached": work.cached,
             "tokens_out": work.tokens_out, "multiplier_ppm": work.multiplier,
             "trm_amount": trm(work.amount), "trm_quoted_max": trm(quote.max_amount)}
    truth |= dict.fromkeys(("id", "receipt", "receipt_id"), work.id.hex())
    for name in sorted(words.keys() & truth.keys()):
        check_words({name: words[name]}, {name: truth[name]})

def check_trade(entry, genesis):
    """Rule 5 for a trade, as far as the entry alone shows it."""
    step, work = entry.step, entry.step.agreement
    need(work.network == genesis.id, "the agreement is of another network")
    need(work.provider not in (work.consumer, step.payer), "the provider pays itself")
    need(entry.author in (work.provider, step.payer), "the author has no part in the trade")
    need(work.cached <= work.tokens_in, "more tokens cached than there were")
    need(0 < work.amount == price(work), "the amount is not what kFLOP and multiplier give")
    check_signature(work, work.provider, "provider", step.by_provider)
    check_signature(work, work.consumer, "consumer", step.by_consumer)
    waits = (entry.author == work.provider
             and genesis.witnesses not in ([entry.author], [step.payer]))
    need(entry.flags == waits, "flags: what is sold has to wait, or must not here")

def check_loan(entry, genesis):
    """Rule 5 for borrow and mint, as far as the entry alone shows it."""
    grant = entry.step.grant
    need(grant.network == genesis.id, "the loan is of another network")
    need(grant.issuer in genesis.quotas, "the loan's issuer has no quota")
    check_signature(grant, grant.issuer, "loan's issuer")
    need(grant.borrower != grant.issuer, "the loan's issuer borrows from itself")
    need(0 < grant.principal <= genesis.welcome, "the principal is 0 or above the welcome loan")
    side = grant.borrower if entry.name == "borrow" else grant.issuer
    need(entry.author == side, "the loan is not the author's")

def check_alone(entry, genesis, key):
    """All rules for an entry signed by the key that need no other entry."""
    check_signature(entry, key, "author")
    need(entry.network == genesis.id, "the entry is of another network")
    need((entry.name == "genesis") == (entry.seq == 1), "genesis entries stand first, only there")
    if entry.seq == 1:
        need((entry.prev, entry.log_root) == (genesis.id, sha(b"")), "prev or log root is wrong")
        need(entry.step.before or entry.spendable == 0, "a chain that begins has nothing")
    need(entry.flags == 0 or entry.name == "trade", "flags: only a trade can wait")
    need(entry.held == entry.staked == 0, "something is held or staked")
    if entry.name == "trade":
        check_trade(entry, genesis)
    elif entry.name in ("borrow", "mint"):
        check_loan(entry, genesis)

def gain(entry):
    """What the entry adds to spendable; negative when it takes."""
    step = entry.step
    if entry.name == "trade":
        if entry.author == step.agreement.provider:
            return 0 if entry.flags else step.agreement.amount
        return -step.agreement.amount if entry.author == step.payer else 0
    if entry.name == "borrow":
        return step.grant.principal
    return {"receive": 1, "repay": -1}.get(entry.name, 0) * getattr(step, "amount", 0)

def days_most(quota, made, genesis):
    """The most that an issuer may make in a day."""
    era = sum(1 for k in range(1, 65) if quota >> k >= quota - made)
    budget = -(-(quota >> (era + 1)) // 1461)
    return min(max(budget, genesis.welcome), genesis.daily)

class Chain:
    """What a chain says so far."""

    def __init__(self, genesis, author):
        """A chain before its first entry."""
        self.genesis, self.author, self.entries, self.log = genesis, author, [], []
        self.spendable = self.made = self.retired = 0
        self.successor, self.loans, self.waiting = bytes(32), {}, {}
        self.agreements, self.invitations, self.mints = set(), set(), []

    def log_root(self):
        """The root over the ids of all entries so far (RFC 9162)."""
        root = self.log[-1][1] if self.log else sha(b"")
        for _, left in reversed(self.log[:-1]):
            root = sha(b"\1" + left + root)
        return root

    def log_append(self, entry_id):
        """Adds a leaf to the whole subtrees that the log consists of."""
        size, root = 1, sha(b"\0" + entry_id)
        while self.log and self.log[-1][0] == size:
            root, size = sha(b"\1" + self.log.pop()[1] + root), size * 2
        self.log.append((size, root))

    def digest(self):
        """The digest of the state."""
        numbers = (self.spendable, 0, 0, self.made, self.retired)
        data = b"trm/v1/state\0" + b"".join(n.to_bytes(8, "little") for n in numbers)
        data += self.successor + len(self.loans).to_bytes(4, "little")
        for invitation, (_, other, owed) in sorted(self.loans.items()):
            data += invitation + other + owed.to_bytes(8, "little")
        data += len(self.waiting).to_bytes(4, "little")
        for receipt, (payer, amount) in sorted(self.waiting.items()):
            data += receipt + payer + amount.to_bytes(8, "little")
        return sha(data)

    def append(self, entry, ended):
        """Adds an entry that keeps all six rules."""
        last, key = self.entries[-1] if self.entries else None, self.author
        place = (self.author, len(self.entries) + 1, last.id if last else self.genesis.id)
        need((entry.author, entry.seq, entry.prev) == place, "author, seq or prev is not the next")
        if entry.name == "succession":
            heir = sha(b"trm/v1/successor\0" + entry.step.key)
            need(heir == self.successor, "the key is not the successor's")
            key = self.signer(entry)
        check_alone(entry, self.genesis, key)
        need(not last or entry.time > last.time, "the time is not later")
        need(not last or last.name != "succession", "an entry follows a succession")
        need(entry.log_root == self.log_root(), "the log root is wrong")
        self.follow(entry, entry.step, ended)
        self.spendable += gain(entry)
        need(self.spendable >= 0, "more is taken than is spendable")
        need(entry.spendable == self.spendable, "spendable is not what follows")
        self.entries.append(entry)
        self.log_append(entry.id)

    def signer(self, entry):
        """Who signed a succession: the successor, or else it has to be the author."""
        try:
            check_signature(entry, entry.step.key, "successor")
            return entry.step.key
        except Invalid:
            return self.author

    def brought(self, entry, ended):
        """What the chain before ended with."""
        before = entry.step.before
        if before is None:
            return 0
        if before.entry not in ended:
            raise Missing("the file of the chain before is not among the files, or not valid")
        old = ended[before.entry]
        last = old.entries[-1]
        same = (last.author, last.seq, last.network) == (before.author, before.seq, entry.network)
        heir = last.name == "succession" and last.step.key == entry.author
        need(same and heir, "the chain before is another one, or does not pass to this author")
        return old.spendable

    def follow(self, entry, step, ended):
        """Rule 5, where it depends on the entries before, and what the entry changes."""
        if entry.name == "genesis":
            self.successor, self.spendable = step.successor, self.brought(entry, ended)
        elif entry.name == "checkpoint":
            need(step.digest == self.digest(), "the digest is not that of the state")
        elif entry.name == "trade":
            receipt = step.agreement.id
            need(receipt not in self.agreements, "the agreement stands on the chain already")
            self.agreements.add(receipt)
            if entry.flags:
                self.waiting[receipt] = (step.payer, step.agreement.amount)
        elif entry.name == "receive":
            waited = self.waiting.pop(step.receipt, None)
            need(waited == (step.payer, step.amount), "no such credit waits")
        elif entry.name in ("borrow", "mint"):
            self.lend(entry, step.grant)
        elif entry.name in ("repay", "retire"):
            self.pay_back(entry, step)

    def lend(self, entry, grant):
        """Opens a loan; an issuer stays within its quota and the day's most."""
        need(grant.invitation not in self.invitations, "the invitation stands already")
        self.invitations.add(grant.invitation)
        other = grant.issuer
        if entry.name == "mint":
            other, quota, now = grant.borrower, self.genesis.quotas[self.author], entry.time >> 16
            need(self.made + grant.principal <= quota, "more is made than the quota")
            day = sum(amount for time, amount in self.mints if now - time < DAY_MS)
            most = days_most(quota, self.made, self.genesis)
            need(day + grant.principal <= most, "more is made than the day's most")
            self.made += grant.principal
            self.mints.append((now, grant.principal))
        self.loans[grant.invitation] = (entry.name, other, grant.principal)

    def pay_back(self, entry, step):
        """Lowers what is owed on a loan."""
        opened = "borrow" if entry.name == "repay" else "mint"
        name, other, owed = self.loans.pop(step.invitation, (None, None, 0))
        need((name, other) == (opened, step.other), "no such loan is open")
        need(0 < step.amount <= owed, "the amount is 0 or above what is owed")
        if owed > step.amount:
            self.loans[step.invitation] = (name, other, owed - step.amount)
        self.retired += step.amount if entry.name == "retire" else 0

def check_certificate(words, entry, genesis):
    """The votes over an entry, if there are any; the assurance that they give."""
    if "certificate" not in words:
        return "signed"
    reader = Reader(unhex(words["certificate"], "certificate"), "certificate")
    cert = reader.document("cert", signed=False)
    over = (cert.network, cert.author, cert.seq, cert.entry)
    need(over == (entry.network, entry.author, entry.seq, entry.id), "certificate: other entry")
    voters = []
    for _ in range(reader.uint(4, 64)):
        voters.append(reader.take(32))
        need(voters[-1] in genesis.witnesses, "certificate: a vote is not by a witness")
        check_signature(cert, voters[-1], "witness", reader.take(64))
    reader.ascending(voters)
    reader.end()
    count = len(genesis.witnesses)
    need(len(voters) >= count - (count - 1) // 3, "certificate: too few votes")
    return "certified"

def check_chain(text, ended):
    """A chain: a first line, a line for each entry, a last line."""
    lines = [load(line) for line in text.removesuffix("\n").split("\n")]
    head, words = lines[0], lines[-1]
    need(len(lines) > 2 and "entries" in words, "cut off")
    check_names(head, ["tirami_chain", "network", "node", "genesis"])
    genesis = parse_genesis(head["genesis"])
    need(head["network"] == genesis.id.hex(), "network says something else than the bytes")
    chain = Chain(genesis, unhex(head["node"], "node"))
    need(len(chain.author) == 32, "node is not 32 bytes")
    for number, line in enumerate(lines[1:-1], start=1):
        try:
            entry = parse_entry(unhex(line.get("entry"), "entry"))
            check_words(line, {"seq": entry.seq, "type": entry.name, "at": at(entry.time),
                               "trm_spendable": trm(entry.spendable), "entry": line["entry"]})
            chain.append(entry, ended)
        except Invalid as reason:
            raise type(reason)(f"entry {number}: {reason}") from None
    truth = {"entries": entry.seq, "head": entry.id.hex()}
    check_words(words, truth | {name: words[name] for name in ("certificate",) if name in words})
    check_certificate(words, entry, genesis)
    return chain

def read_entry(words, name, genesis):
    """An entry from a file, signed by its author, with all rules that need no other entry."""
    entry = parse_entry(unhex(words[name], name))
    check_alone(entry, genesis, entry.author)
    return entry

def check_balance(words, _):
    """A balance: one entry and what it says."""
    check_names(words, ["tirami_balance", "says", "genesis", "entry"], ["certificate"])
    genesis = parse_genesis(words["genesis"])
    entry = read_entry(words, "entry", genesis)
    check_words(words["says"], {
        "network": genesis.id.hex(), "node": entry.author.hex(), "seq": entry.seq,
        "head": entry.id.hex(), "as_of": at(entry.time), "trm_spendable": trm(entry.spendable),
        "trm_held": trm(entry.held), "trm_staked": trm(entry.staked),
        "assurance": check_certificate(words, entry, genesis)})

def included_root(leaf, index, size, path):
    """The root that an inclusion proof gives (RFC 9162, 2.1.3.2)."""
    first, last, root = index, size - 1, sha(b"\0" + leaf)
    for part in path:
        need(last > 0, "the path is too long")
        if first & 1 or first == last:
            root = sha(b"\1" + part + root)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            root = sha(b"\1" + root + part)
        first, last = first >> 1, last >> 1
    need(last == 0, "the path is too short")
    return root

def check_inclusion(words, _):
    """An inclusion: one entry that stands under a newer one."""
    check_names(words, ["tirami_inclusion", "says", "genesis", "entry", "head", "path"],
                ["certificate"])
    genesis = parse_genesis(words["genesis"])
    entry, head = (read_entry(words, name, genesis) for name in ("entry", "head"))
    need(type(words["path"]) is list, "path is not a list")
    path = [unhex(part, "path") for part in words["path"]]
    need(all(len(part) == 32 for part in path), "path has something else than hashes")
    need(entry.author == head.author, "the head is of another author")
    if entry.id == head.id:
        need(not path, "the head is the entry, and there is a path")
    else:
        newer = entry.seq < head.seq and entry.time < head.time
        need(newer and entry.name != "succession", "the head is not newer than the entry")
        root = included_root(entry.id, entry.seq - 1, head.seq - 1, path)
        need(root == head.log_root, "the entry does not stand under the head")
    truth = {"network": genesis.id.hex(), "node": entry.author.hex(), "seq": entry.seq,
             "entry": entry.id.hex(), "type": entry.name, "at": at(entry.time),
             "under": head.seq, "assurance": check_certificate(words, head, genesis)}
    if entry.name == "trade":
        work = entry.step.agreement
        truth |= {"receipt": work.id.hex(), "trm_amount": trm(work.amount)}
    check_words(words["says"], truth)

def proves(kind, first, second):
    """Whether two documents prove a fraud of the kind."""
    if kind == "fork":
        return first.seq == second.seq and first.id < second.id
    if kind == "arithmetic":
        follows = second.prev == first.id and second.seq == first.seq + 1
        wrong = second.name != "genesis" and second.spendable != first.spendable + gain(second)
        moved = (first.held, first.staked) != (second.held, second.staked)
        return follows and (wrong or moved or second.time <= first.time)
    if kind == "voucher_contradiction":
        same = (first.hold, first.lane, first.payee) == (second.hold, second.lane, second.payee)
        less = second.total < first.total or second.tokens < first.tokens
        ordered = (first.seq, first.id) < (second.seq, second.id)
        return same and ordered and (first.seq == second.seq or less)
    trades = first.name == second.name == "trade" and first.seq < second.seq
    return trades and first.step.agreement.id == second.step.agreement.id

def check_fraud(words, _):
    """A fraud proof: two documents that one key must not have signed."""
    check_names(words, ["tirami_fraud", "says", "proof"])
    proof = parse("fraud", unhex(words["proof"], "proof"), signed=False)
    kind, documents = FRAUDS[proof.kind], []
    for data in (proof.first, proof.second):
        vouchers = kind == "voucher_contradiction"
        documents.append(parse("voucher", data, signed=True) if vouchers else parse_entry(data))
        own = vouchers or documents[-1].author == proof.accused
        own = own and documents[-1].network == proof.network
        need(own, "a document is of another node or network")
        check_signature(documents[-1], proof.accused, "accused")
    need(proves(kind, *documents), f"the documents do not prove {kind}")
    check_words(words["says"], {"network": proof.network.hex(), "accused": proof.accused.hex(),
                                "fraud": kind, "id": proof.id.hex()})

def check_narrower(grant, parent):
    """Refuses a grant that allows more than the one before."""
    for name in ("network", "root", "pinned", "epoch"):
        need(getattr(grant, name) == getattr(parent, name), f"grant: {name} differs")
    need(grant.parent == parent.id, "grant: parent is not the grant before")
    need(parent.lo <= grant.lo and grant.hi <= parent.hi, "grant: the range is not inside")
    ceilings = [2**32 if one.ceiling is None else one.ceiling for one in (grant, parent)]
    need(ceilings[0] <= ceilings[1], "grant: the ceiling is higher")
    need(grant.per_request <= parent.per_request, "grant: per request is higher")
    need(grant.expires <= parent.expires, "grant: it expires later")
    need(grant.depth < parent.depth, "grant: depth left is not smaller")
    for mine, before in ((grant.models, parent.models), (grant.payees, parent.payees)):
        inside = not before or (mine and set(mine) <= set(before))
        need(inside, "grant: models or payees are more")

def check_mandate(text):
    """The text of a mandate: a chain of grants. Whether one is over is not judged."""
    coded = text.strip("\r\n").removeprefix("tirami-mandate1_")
    need(re.fullmatch("[A-Za-z0-9_-]+", coded) and len(coded) % 4 != 1, "not base64url")
    data = base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4))
    need(base64.urlsafe_b64encode(data).decode().rstrip("=") == coded, "not base64url")
    data, check = data[:-4], data[-4:]
    need(sha(data)[:4] == check and len(data) <= 16384, "check bytes or length are wrong")
    reader = Reader(data, "mandate")
    need(reader.uint(1) == 1, "mandate: unknown version")
    grants = [parse("grant", reader.read("blob"), signed=True) for _ in range(reader.uint(4, 4))]
    reader.end()
    need(grants and grants[0].parent == bytes(32), "mandate: no grant, or the first has a parent")
    for grant, parent in zip(grants, [None] + grants):
        need(grant.lo < grant.hi, "grant: the range is empty")
        check_signature(grant, parent.holder if parent else grant.root, "grant's giver")
        if parent:
            check_narrower(grant, parent)

def verify(path, ended):
    """The kind of a file that holds and, for a chain, what it says."""
    with open(path, "rb") as file:
        text = file.read().decode()
    if text.startswith("tirami-mandate1_"):
        return "mandate", check_mandate(text)
    try:
        words = load(text)
    except Invalid:
        words = load(text.split("\n", 1)[0])
        need("tirami_chain" in words, "not one object of JSON")
    kinds = {"chain": check_chain, "receipt": check_receipt, "balance": check_balance,
             "inclusion": check_inclusion, "fraud": check_fraud}
    found = [kind for kind in kinds if f"tirami_{kind}" in words]
    need(len(found) == 1, "not a file of a known kind")
    version = words[f"tirami_{found[0]}"]
    need(type(version) is int and version == 1, f"tirami_{found[0]} is not 1")
    return found[0], kinds[found[0]](text if found[0] == "chain" else words, ended)

def verify_all(paths):
    """What there is to say of each file; chains are read after the chains they go on."""
    results, ended, waiting = [None] * len(paths), {}, list(range(len(paths)))
    while waiting:
        later = []
        for number in waiting:
            try:
                results[number] = kind, chain = verify(paths[number], ended)
                if kind == "chain":
                    ended[chain.entries[-1].id] = chain
            except (Invalid, OSError, UnicodeDecodeError) as reason:
                results[number] = reason
                later += [number] if isinstance(reason, Missing) else []
        waiting = later if len(later) < len(waiting) else []
    return results

def check_against(chain, longest, debits, mints):
    """Checks a chain against the others: forks, and the other side of what it was given."""
    for entry, other in zip(chain.entries, longest[chain.author].entries):
        need(entry.id == other.id, f"entry {entry.seq}: another file has another one, a fork")
    for entry in chain.entries:
        step, side, holds = entry.step, None, True
        if entry.name == "trade" and entry.author != step.payer and not entry.flags:
            side, holds = step.payer, (step.payer, step.agreement.id) in debits
        elif entry.name == "receive":
            side, holds = step.payer, debits.get((step.payer, step.receipt)) == step.entry
        elif entry.name == "borrow":
            side, holds = step.grant.issuer, step.grant.id in mints
        need(holds or side not in longest, f"entry {entry.seq}: the other side's chain lacks it")

def check_ledger(results):
    """The results after all chains were checked against each other."""
    chains = [one[1] for one in results if type(one) is tuple and one[0] == "chain"]
    longest = {one.author: one for one in sorted(chains, key=lambda one: len(one.entries))}
    entries = [entry for chain in longest.values() for entry in chain.entries]
    debits = {(one.author, one.step.agreement.id): one.id for one in entries
              if one.name == "trade" and one.author == one.step.payer}
    mints = {one.step.grant.id for one in entries if one.name == "mint"}
    for number, result in enumerate(results):
        try:
            if type(result) is tuple:
                need(result[0] == "chain", f"a {result[0]} is not a chain")
                need(result[1].genesis.id == chains[0].genesis.id, "a chain of another network")
                check_against(result[1], longest, debits, mints)
        except Invalid as reason:
            results[number] = reason
    return results

def main(arguments):
    """Prints a line for each file; 0 when all hold, 1 when not, 2 when the command is wrong."""
    ledger = arguments[:1] == ["--ledger"]
    paths = arguments[1:] if ledger else arguments
    if not paths or any(path.startswith("--") for path in paths):
        print("usage: verify.py [--ledger] FILE...", file=sys.stderr)
        return 2
    results = check_ledger(verify_all(paths)) if ledger else verify_all(paths)
    good = [type(result) is tuple for result in results]
    for path, result, holds in zip(paths, results, good):
        print(f"valid {result[0]} {path}" if holds else f"invalid {path}: {result}")
    return 0 if all(good) else 1

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env python3
"""Checks files of Tirami offline. Written from docs/protocol.md alone; needs `cryptography`."""
import base64
import hashlib
import json
import re
import sys
from datetime import datetime, timedelta
from functools import reduce
from types import SimpleNamespace
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

CAP, MAX_DOCUMENT, MAX_MANDATE, DAY_MS = 21 * 10**15, 4096, 16384, 24 * 60 * 60 * 1000
SCALARS = 2**252 + 27742317777372353535851937790883648493
# The points of small order, the sign bit cleared; two of them are not canonical.
SMALL_ORDER = {bytes.fromhex(text) for text in (
    "00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f", "ed" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")}
# A field is name:kind=allowed, and 32 bytes when it has no kind. A kind is so many bytes, an integer, another
# layout, or one that Reader.read names; then + means not 0, ? maybe absent, *8 a list of at most 8.
LAYOUTS = dict(layout.strip().split(" = ") for layout in """
quote = version:u8=1 network provider consumer model block:u64 head:u64 attention:u64 card_window:u32
    context:u32 multiplier:u32 max_in:u32 max_out:u32 max_amount:amount chunk:u16 window:u16 issued:u64
    expires:u64 nonce:16 signature:64;
agreement = version:u8=1 network kind:u16=1 provider consumer nonce:16 quote ledger:u8=1 hold:16 model
    tokens_in:u32 cached:u32 tokens_out:u32 kflop:u64 multiplier:u32 earlier:u64=0 amount:amount transcript
    seed:u64 temperature:u32 top_k:u32 lane:u32=0 voucher:u32 audit:u8=0|1 engine:8 started:u64 ended:u64
    finish:u8=1|2|3;
receipt = version:u8=1 quote:blob agreement:blob by_provider:64 by_consumer:64;
genesis = version:u8=1 name:name founded:u64 nonce:16 issuers:issuer*64 witnesses:32*64 price:u32
    welcome:amount term:u64 daily:amount; issuer = node quota:amount;
loan-grant = version:u8=1 network issuer borrower invitation:16 principal:amount granted:u64 due:u64
    signature:64;
voucher = version:u8=1 network hold:16 lane:u32 payee seq:u32+ total:amount tokens:u32 transcript
    signature:64;
mandate = version:u8=1 grants:blob*4;
grant = version:u8=1 network root parent serial:u64 lo:u64 hi:amount holder pinned:32? per_request:u64
    ceiling:u32? actions:u32=1 models:32*8 payees:32*8 expires:u64 epoch:u64 depth:u8 signature:64;
entry = version:u8=1 type:u16=1|2|3|13|15|41|50|51|52 flags:u16=0|1 network author seq:u64+ prev time:u64
    spendable:amount held:amount staked:amount root payload:blob signature:64;
payload 1 = successor before:link?; link = author seq:u64 entry; payload 2 = digest; payload 3 = key;
payload 13 = payer agreement:agreement by_provider:64 by_consumer:64;
payload 15 = payer receipt amount:amount entry; payload 41 = other invitation:16 amount:amount receipt;
payload 50 = grant:loan-grant; payload 51 = grant:loan-grant;
payload 52 = other invitation:16 amount:amount receipt;
cert = version:u8=1 network epoch:u64=0 author seq:u64 entry votes:vote*64; vote = witness signature:64;
fraud = version:u8=1 network kind:u16=1|2|3|4 accused first:blob second:blob""".split(";"))
TYPES = {1: "genesis", 2: "checkpoint", 3: "succession", 13: "trade", 15: "receive", 41: "repay", 50: "mint",
         51: "borrow", 52: "retire"}
FRAUDS = {1: "fork", 2: "arithmetic", 3: "voucher_contradiction", 4: "double_agreement"}
FINISH = {1: "stop", 2: "length", 3: "cancelled"}
BORROWED, LENT = b"\0", b"\1"
ERRORS = (OSError, ValueError, OverflowError, RecursionError)  # Invalid is a ValueError

class Invalid(ValueError):
    """Why a file is refused."""

def need(holds, reason):
    if not holds:
        raise Invalid(reason)

def sha(data):
    return hashlib.sha256(data).digest()

class Reader:
    """Reads layouts and refuses whatever does not fit them; `what` names the document in refusals."""

    def __init__(self, data, what):
        self.data, self.what, self.pos = data, what, 0

    def take(self, count):
        need(self.pos + count <= len(self.data), f"{self.what}: too short")
        self.pos += count
        return self.data[self.pos - count:self.pos]

    def number(self, size, least=0, most=2**64):
        number = int.from_bytes(self.take(size), "little")
        need(least <= number <= most, f"{self.what}: the number {number} is out of range")
        return number

    def read(self, kind):
        if "*" in kind:
            kind, most = kind.split("*")
            return [self.read(kind) for _ in range(self.number(4, most=int(most)))]
        if kind[-1] == "?":
            return self.read(kind[:-1]) if self.number(1, most=1) else None
        if kind in LAYOUTS:
            return self.document(kind)
        if kind in ("blob", "name"):
            data = self.take(self.number(4, most=MAX_DOCUMENT if kind == "blob" else 64))
            return data if kind == "blob" else data.decode()
        if kind == "amount":
            return self.number(8, most=CAP)
        if kind.isdigit():
            return self.take(int(kind))
        return self.number(int(kind.strip("u+")) // 8, least=1 if kind.endswith("+") else 0)

    def document(self, kind):
        """All fields of a layout, and the id, which leaves out signatures."""
        found, start, body = SimpleNamespace(), self.pos, None
        for field in LAYOUTS[kind].split():
            name, of, allowed = re.fullmatch("([^:]+):?([^=]*)=?(.*)", field).groups()
            body = self.data[start:self.pos] if name in ("signature", "votes") else None
            value = self.read(of or "32")
            need(not allowed or str(value) in allowed.split("|"), f"{self.what}: {name} is {value}")
            setattr(found, name, value)
        found.id = sha(f"trm/v1/{kind}\0".encode() + (body or self.data[start:self.pos]))
        return found

def parse(kind, data, limit=MAX_DOCUMENT):
    reader = Reader(data, kind)
    found = reader.document(kind)
    need(reader.pos == len(data) <= limit, f"{kind}: bytes left over, or more than {limit}")
    return found

def parse_genesis(text):
    genesis = parse("genesis", unhex(text))
    genesis.quotas = {issuer.node: issuer.quota for issuer in genesis.issuers}
    once = len(genesis.quotas), len(set(genesis.witnesses))
    need(once == (len(genesis.issuers), len(genesis.witnesses)), "genesis: a node stands twice")
    need(genesis.witnesses and sum(genesis.quotas.values()) == CAP, "genesis: no witness, or wrong quotas")
    return genesis

def parse_entry(text):
    """An entry, with the name of its type and its payload as `step`."""
    entry = parse("entry", unhex(text))
    entry.name = TYPES[entry.type]
    entry.step = parse(f"payload {entry.type}", entry.payload)
    return entry

def signed_by(key, document, signature=None):
    """Whether `verify_strict` of Ed25519 accepts the signature."""
    signature = signature or document.signature
    points = {part[:31] + bytes([part[31] & 127]) for part in (key, signature[:32])}
    if int.from_bytes(signature[32:], "little") >= SCALARS or points & SMALL_ORDER:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, b"trm/v1/sig\0" + document.id)
    except (InvalidSignature, ValueError):
        return False
    return True

def trm(micro):
    return f"{micro // 10**6}.{micro % 10**6:06}".rstrip("0").rstrip(".")

def at(hybrid):
    moment = datetime(1970, 1, 1) + timedelta(milliseconds=hybrid >> 16)
    return moment.isoformat(timespec="milliseconds") + "Z"

def unhex(value):
    need(type(value) is str and re.fullmatch("([0-9a-fA-F]{2})*", value), "not hexadecimal")
    return bytes.fromhex(value)

def unique(pairs):
    need(len(dict(pairs)) == len(pairs), "a field stands twice")
    return dict(pairs)

def load(text):
    words = json.loads(text, object_pairs_hook=unique)
    need(type(words) is dict, "not an object of JSON")
    return words

def check_words(words, others, truth):
    """Only these fields stand there, and what `truth` names is true. A certificate may be absent."""
    fields = {*truth, *others.split()}
    need(type(words) is dict, "not an object of JSON")
    odd = fields ^ words.keys()
    need(odd <= fields & {"certificate"}, f"missing or unknown fields: {sorted(odd)}")
    for name, value in truth.items():
        same = type(words[name]) is type(value) and words[name] == value
        need(same, f"{name} says something else than the bytes")

def nominal_kflop(quote, work):
    def attended(count):
        """The sum of min(t, window) for t = 1 to count; without the min when the window is 0."""
        short = min(count, quote.card_window or count)
        return short * (short + 1) // 2 + (count - short) * quote.card_window
    before, out = work.tokens_in, work.tokens_out
    seen = attended(before) - attended(work.cached)
    seen += attended(max(0, before + out - 1)) - attended(max(0, before - 1))
    rows = max(0, before - work.cached + out - (out > 0))
    return -(-(2 * quote.block * rows + 2 * quote.head * out + quote.attention * seen) // 1000)

def check_work(work, signatures):
    """What holds for an agreement in a receipt and in a trade."""
    need(work.cached <= work.tokens_in, "more tokens cached than there were")
    need(work.amount == -(-work.kflop * work.multiplier // 10**6), "amount is not kFLOP times multiplier")
    need(signed_by(work.provider, work, signatures.by_provider), "the provider's signature does not hold")
    need(signed_by(work.consumer, work, signatures.by_consumer), "the consumer's signature does not hold")

def check_receipt(words):
    receipt = parse("receipt", unhex(words.get("signed")))
    quote, work = parse("quote", receipt.quote), parse("agreement", receipt.agreement)
    need(signed_by(quote.provider, quote), "the quote's signature does not hold")
    need(work.quote == quote.id, "the agreement is not under this quote")
    for name in ("network", "provider", "consumer", "model", "multiplier"):
        need(getattr(work, name) == getattr(quote, name), f"{name} differs from the quote's")
    check_work(work, receipt)
    need(work.kflop == nominal_kflop(quote, work), "kFLOP is not what the tokens give")
    most = work.tokens_in <= quote.max_in and work.tokens_out <= quote.max_out
    need(most and work.amount <= quote.max_amount, "tokens or amount are above the quote's maxima")
    check_words(words, "signed", {
        "tirami_receipt": 1, "receipt": work.id.hex(), "network": work.network.hex(),
        "provider": work.provider.hex(), "consumer": work.consumer.hex(), "model_id": work.model.hex(),
        "tokens_in": work.tokens_in, "tokens_out": work.tokens_out, "kflop": str(work.kflop),
        "multiplier_ppm": work.multiplier, "trm_amount": trm(work.amount), "ended_at": at(work.ended),
        "trm_quoted_max": trm(quote.max_amount), "finish": FINISH[work.finish]})

def check_trade(entry, genesis):
    step, work = entry.step, entry.step.agreement
    need(work.network == genesis.id and work.amount > 0, "another network's agreement, or for nothing")
    need(work.provider not in (work.consumer, step.payer), "the provider pays itself")
    need(entry.author in (work.provider, step.payer), "the author has no part in the trade")
    check_work(work, step)
    waits = entry.author == work.provider and genesis.witnesses not in ([entry.author], [step.payer])
    need(entry.flags == waits, "flags: what is sold has to wait here" if waits else "flags: it must not wait")

def check_loan(entry, genesis):
    grant = entry.step.grant
    known = grant.network == genesis.id and grant.issuer in genesis.quotas
    need(known and signed_by(grant.issuer, grant), "the loan is not signed by an issuer of this network")
    need(0 < grant.principal <= genesis.welcome, "the principal is 0 or above the welcome loan")
    side = grant.borrower if entry.name == "borrow" else grant.issuer
    need(entry.author == side and grant.borrower != grant.issuer, "the loan is not the author's, or its own")

def check_alone(entry, genesis, successor=None):
    """The rules that need no other entry; a succession in a chain may be signed by the successor."""
    need(entry.network == genesis.id, "the entry is of another network")
    holds = signed_by(entry.author, entry) or successor and signed_by(successor, entry)
    need(holds, "the author's signature does not hold")
    need((entry.name == "genesis") == (entry.seq == 1), "a genesis entry stands first, and only there")
    if entry.seq == 1:
        need((entry.prev, entry.root) == (genesis.id, sha(b"")), "prev or log root of a first entry is wrong")
        need(entry.step.before or entry.spendable == 0, "a chain that begins has nothing")
    need(entry.held == entry.staked == 0, "something is held or staked")
    need(entry.flags == 0 or entry.name == "trade", "flags: only a trade can wait")
    if entry.name == "trade":
        check_trade(entry, genesis)
    if entry.name in ("borrow", "mint"):
        check_loan(entry, genesis)
    return entry

def gain(entry):
    """What the entry adds to spendable; negative when it takes."""
    if entry.name == "trade":
        amount, sold = entry.step.agreement.amount, entry.author == entry.step.agreement.provider
        return (0 if entry.flags else amount) if sold else -amount
    if entry.name == "borrow":
        return entry.step.grant.principal
    return {"receive": 1, "repay": -1}.get(entry.name, 0) * getattr(entry.step, "amount", 0)

def digest(state):
    """The digest of a state. Each table is a count and its rows by ascending key."""
    data = [b"trm/v1/state\0", state.spendable, 0, 0, state.made, state.retired, state.successor]
    for table in (state.loans, state.waiting):
        data.append(len(table).to_bytes(4, "little"))
        for key, row in sorted(table.items()):
            data += [key, *row]
    return sha(b"".join(part.to_bytes(8, "little") if type(part) is int else part for part in data))

class Chain:
    """A chain as far as it was read. Its state passes to the chain that goes on."""

    def __init__(self, genesis, author, before):
        self.genesis, self.author, self.before, self.entries, self.trees = genesis, author, before, [], []
        self.state = before.state if before else SimpleNamespace(
            spendable=0, made=0, retired=0, successor=b"", loans={}, waiting={}, agreements=set(),
            invitations=set(), mints=[])

    def append(self, entry):
        """Adds an entry that keeps all six rules. `trees` are roots over ids, the largest first."""
        last, count, state = self.entries[-1] if self.entries else None, len(self.entries), self.state
        successor = entry.step.key if last and entry.name == "succession" else None
        named = not successor or sha(b"trm/v1/successor\0" + successor) == state.successor
        need(named, "the key is not that of the successor")
        check_alone(entry, self.genesis, successor)
        need((entry.author, entry.seq) == (self.author, count + 1), "author or seq is not the next")
        need(not last or entry.prev == last.id, "prev is not the entry before")
        earlier = last or (self.before and self.before.entries[-1])
        need(not earlier or entry.time > earlier.time, "the time is not later")
        need(not last or last.name != "succession", "an entry follows a succession")
        root = reduce(lambda right, left: sha(b"\1" + left + right), self.trees[::-1]) if last else sha(b"")
        need(entry.root == root, "the log root is not that of the entries before")
        self.follow(entry, entry.step, state)
        state.spendable += gain(entry)
        need(state.spendable >= 0, "it takes more than is spendable")
        need(entry.spendable == state.spendable, "spendable is not what follows")
        self.entries.append(entry)
        tree = sha(b"\0" + entry.id)
        while count & 1:
            tree, count = sha(b"\1" + self.trees.pop() + tree), count >> 1
        self.trees.append(tree)

    def follow(self, entry, step, state):
        """Rule 5 where it depends on the entries before, and what the entry changes."""
        if entry.name == "genesis":
            last = self.before.entries[-1] if self.before else None
            link = step.before and (step.before.author, step.before.seq, step.before.entry)
            need(link == (last and (last.author, last.seq, last.id)), "another chain before than it names")
            passed = not last or last.name == "succession" and last.step.key == self.author
            need(passed and (not last or last.network == entry.network), "the chain before passes to another")
            state.successor = step.successor
        elif entry.name == "checkpoint":
            need(step.digest == digest(state), "the digest is not that of the state")
        elif entry.name == "trade":
            work = step.agreement
            need(work.id not in state.agreements, "the agreement stands on the chain already")
            state.agreements.add(work.id)
            if entry.flags:
                state.waiting[work.id] = (step.payer, work.amount)
        elif entry.name == "receive":
            need(state.waiting.pop(step.receipt, None) == (step.payer, step.amount), "no such credit waits")
        elif entry.name in ("borrow", "mint"):
            grant, mint = step.grant, entry.name == "mint"
            need(grant.invitation not in state.invitations, "the invitation stands on the chain already")
            state.invitations.add(grant.invitation)
            side = (LENT, grant.borrower) if mint else (BORROWED, grant.issuer)
            state.loans[grant.invitation] = (*side, grant.principal)
            if mint:
                self.mint(entry.time >> 16, grant.principal, state)
        elif entry.name in ("repay", "retire"):
            lent, other, owed = state.loans.pop(step.invitation, (None, None, 0))
            side = LENT if entry.name == "retire" else BORROWED
            need((lent, other) == (side, step.other), "no such loan is open")
            need(0 < step.amount <= owed, "the amount is 0 or above what is owed")
            if owed > step.amount:
                state.loans[step.invitation] = (lent, other, owed - step.amount)
            state.retired += step.amount if lent == LENT else 0

    def mint(self, now, principal, state):
        """What an issuer makes stays within its quota and the day's most."""
        quota = self.genesis.quotas[self.author]
        need(state.made + principal <= quota, "more is made than the quota")
        era = sum(1 for k in range(1, 65) if quota >> k >= quota - state.made)
        budget = -(-(quota >> (era + 1)) // 1461)
        day = principal + sum(amount for time, amount in state.mints if now - time < DAY_MS)
        most = min(max(budget, self.genesis.welcome), self.genesis.daily)
        need(day <= most, "more is made than the day's most")
        state.made += principal
        state.mints.append((now, principal))

def check_certificate(words, entry, genesis):
    """The assurance that a file gives: `certified` when it has a certificate over the entry."""
    if "certificate" not in words:
        return "signed"
    cert, count = parse("cert", unhex(words["certificate"]), limit=2 * MAX_DOCUMENT), len(genesis.witnesses)
    over = (cert.network, cert.author, cert.seq, cert.entry)
    need(over == (entry.network, entry.author, entry.seq, entry.id), "certificate: it is over another entry")
    voters = [vote.witness for vote in cert.votes]
    need(voters == sorted(set(voters)), "certificate: the witnesses do not ascend")
    need(set(voters) <= set(genesis.witnesses), "certificate: a vote is not by a witness")
    need(len(voters) >= count - (count - 1) // 3, "certificate: too few votes")
    for vote in cert.votes:
        need(signed_by(vote.witness, cert, vote.signature), "certificate: a signature does not hold")
    return "certified"

def check_chain(text):
    """The chains of a file, each going on the one before: a first line, a line per entry, a last line."""
    chains, chain = [], None
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        try:
            words = load(line)
            if chain is None:
                genesis, node = parse_genesis(words.get("genesis")), unhex(words.get("node"))
                chain = Chain(genesis, node, chains[-1] if chains else None)
                truth = {"tirami_chain": 1, "network": genesis.id.hex(), "node": node.hex()}
                check_words(words, "genesis", truth)
            elif "entry" in words:
                entry = parse_entry(words["entry"])
                chain.append(entry)
                check_words(words, "entry", {"seq": entry.seq, "type": entry.name, "at": at(entry.time),
                                             "trm_spendable": trm(entry.spendable)})
            else:
                need(chain.entries, "cut off: there is no entry")
                last, chains, chain = chain.entries[-1], chains + [chain], None
                check_words(words, "certificate", {"entries": last.seq, "head": last.id.hex()})
                check_certificate(words, last, genesis)
        except ERRORS as reason:
            raise Invalid(f"line {number}: {reason}") from None
    need(chain is None, "cut off: there is no last line")
    return chains

def check_balance(words):
    check_words(words, "says genesis entry certificate", {"tirami_balance": 1})
    genesis = parse_genesis(words["genesis"])
    entry = check_alone(parse_entry(words["entry"]), genesis)
    check_words(words["says"], "", {
        "network": genesis.id.hex(), "node": entry.author.hex(), "seq": entry.seq, "head": entry.id.hex(),
        "as_of": at(entry.time), "trm_spendable": trm(entry.spendable), "trm_held": trm(entry.held),
        "trm_staked": trm(entry.staked), "assurance": check_certificate(words, entry, genesis)})

def included_root(leaf, index, size, path):
    """The root of a tree of this size that an inclusion proof gives (RFC 9162, 2.1.3)."""
    need((size > 1) == bool(path), "the path is too short or too long")
    if size == 1:
        return sha(b"\0" + leaf)
    split = 1 << ((size - 1).bit_length() - 1)
    if index < split:
        return sha(b"\1" + included_root(leaf, index, split, path[:-1]) + path[-1])
    return sha(b"\1" + path[-1] + included_root(leaf, index - split, size - split, path[:-1]))

def check_inclusion(words):
    check_words(words, "says genesis entry head path certificate", {"tirami_inclusion": 1})
    need(type(words["path"]) is list, "path is not a list")
    genesis, path = parse_genesis(words["genesis"]), [unhex(part) for part in words["path"]]
    entry, head = (check_alone(parse_entry(words[name]), genesis) for name in ("entry", "head"))
    if entry.id == head.id:
        need(not path, "the head is the entry, and there is a path")
    else:
        newer = entry.seq < head.seq and entry.time < head.time and entry.name != "succession"
        need(newer and entry.author == head.author, "the head is not a newer entry of the same author")
        need(all(len(part) == 32 for part in path), "path has something else than hashes")
        root = included_root(entry.id, entry.seq - 1, head.seq - 1, path)
        need(root == head.root, "the entry does not stand under the head")
    truth = {"network": genesis.id.hex(), "node": entry.author.hex(), "seq": entry.seq, "under": head.seq,
             "entry": entry.id.hex(), "type": entry.name, "at": at(entry.time),
             "assurance": check_certificate(words, head, genesis)}
    if entry.name == "trade":
        truth["receipt"] = entry.step.agreement.id.hex()
        truth["trm_amount"] = trm(entry.step.agreement.amount)
    check_words(words["says"], "", truth)

def proves(kind, first, second):
    if kind == "fork":
        return first.seq == second.seq and first.id < second.id
    if kind == "arithmetic":
        wrong = second.name != "genesis" and second.spendable != first.spendable + gain(second)
        moved = (first.held, first.staked) != (second.held, second.staked) or second.time <= first.time
        return (second.prev, second.seq) == (first.id, first.seq + 1) and (wrong or moved)
    if kind == "voucher_contradiction":
        same = (first.hold, first.lane, first.payee) == (second.hold, second.lane, second.payee)
        less = second.total < first.total or second.tokens < first.tokens
        return same and (first.seq < second.seq and less or first.seq == second.seq and first.id < second.id)
    trades = first.name == second.name == "trade" and first.seq < second.seq
    return trades and first.step.agreement.id == second.step.agreement.id

def check_fraud(words):
    check_words(words, "says proof", {"tirami_fraud": 1})
    proof = parse("fraud", unhex(words["proof"]), limit=3 * MAX_DOCUMENT)
    kind, vouchers = FRAUDS[proof.kind], FRAUDS[proof.kind] == "voucher_contradiction"
    both = [parse("voucher", data) if vouchers else parse_entry(data.hex())
            for data in (proof.first, proof.second)]
    for one in both:
        own = one.network == proof.network and (vouchers or one.author == proof.accused)
        need(own and signed_by(proof.accused, one), "a document is not the accused's in this network")
    need(proves(kind, *both), f"the documents do not prove {kind}")
    check_words(words["says"], "", {"network": proof.network.hex(), "accused": proof.accused.hex(),
                                    "fraud": kind, "id": proof.id.hex()})

def narrows(grant, parent):
    names = ("network", "root", "pinned", "epoch")
    same = all(getattr(grant, name) == getattr(parent, name) for name in names)
    inside = parent.lo <= grant.lo and grant.hi <= parent.hi and grant.per_request <= parent.per_request
    ceiling = parent.ceiling is None or grant.ceiling is not None and grant.ceiling <= parent.ceiling
    sooner = grant.expires <= parent.expires and grant.depth < parent.depth
    lists = ((grant.models, parent.models), (grant.payees, parent.payees))
    subsets = all(not before or (mine and set(mine) <= set(before)) for mine, before in lists)
    return grant.parent == parent.id and same and inside and ceiling and sooner and subsets

def check_mandate(text):
    """The text of a mandate: a chain of grants. Whether one is over is not judged."""
    coded = text.removeprefix("tirami-mandate1_")
    data = base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4))
    need(base64.urlsafe_b64encode(data).decode().rstrip("=") == coded, "not base64url")
    need(sha(data[:-4])[:4] == data[-4:], "the check bytes are wrong")
    grants = [parse("grant", grant) for grant in parse("mandate", data[:-4], limit=MAX_MANDATE).grants]
    need(grants and grants[0].parent == bytes(32), "mandate: no grant, or the first has a parent")
    for grant, parent in zip(grants, [None] + grants):
        need(signed_by(parent.holder if parent else grant.root, grant), "grant: its signature does not hold")
        ascend = all(ids == sorted(set(ids)) for ids in (grant.models, grant.payees))
        need(ascend and grant.lo < grant.hi, "grant: an empty range, or models or payees that do not ascend")
        need(not parent or narrows(grant, parent), "grant: it does not narrow the one before")

def verify(path):
    """The kind of a file that holds, and the chains in it."""
    checks = {"tirami_chain": check_chain, "tirami_receipt": check_receipt, "tirami_balance": check_balance,
              "tirami_inclusion": check_inclusion, "tirami_fraud": check_fraud}
    with open(path, "rb") as file:
        text = file.read().decode()
    if text.strip().startswith("tirami-mandate1_"):
        return "mandate", check_mandate(text.strip())
    try:
        words = load(text)
    except ValueError:
        words = load(text.split("\n", 1)[0])
        need("tirami_chain" in words, "not one object of JSON")
    found = checks.keys() & words.keys()
    need(len(found) == 1, "not a file of a known kind")
    kind = found.pop()
    return kind.removeprefix("tirami_"), checks[kind](text if kind == "tirami_chain" else words)

def other_side(entry):
    """Who pays or lends, on which receipt or loan."""
    step = entry.step
    if entry.name in ("borrow", "mint"):
        return entry.network, step.grant.issuer, step.grant.id
    if entry.name in ("trade", "receive"):
        return entry.network, step.payer, step.agreement.id if entry.name == "trade" else step.receipt
    return entry.network, None, None

def disagreements(files):
    """What chains hold against each other: forks, and credits that the payer or lender does not have."""
    chains = sorted((chain for found in files.values() for chain in found), key=lambda one: len(one.entries))
    longest = {(one.genesis.id, one.author): one.entries for one in chains}
    debits = {other_side(one): one.id for entries in longest.values() for one in entries
              if other_side(one)[1] == one.author}
    for path, one in ((path, one) for path in files for chain in files[path] for one in chain.entries):
        if longest[one.network, one.author][one.seq - 1].id != one.id:
            yield path, f"entry {one.seq}: another file has another one, a fork"
        debit = debits.get(other_side(one))
        right = debit == one.step.entry if one.name == "receive" else debit or one.flags
        if other_side(one)[:2] in longest and not right:
            yield path, f"entry {one.seq}: the other side's chain lacks it"

def main(arguments):
    """Prints a line for each file; 0 when all hold, 1 when not, 2 when the command is wrong."""
    ledger = arguments[:1] == ["--ledger"]
    paths = arguments[1:] if ledger else arguments
    if not paths or any(path.startswith("--") for path in paths):
        print("usage: verify.py [--ledger] FILE...", file=sys.stderr)
        return 2
    valid, invalid = {}, {}
    for path in paths:
        try:
            valid[path] = verify(path)
        except ERRORS as reason:
            invalid[path] = reason
    if ledger:
        invalid |= disagreements({path: chains or [] for path, (_, chains) in valid.items()})
    for path in paths:
        print(f"invalid {path}: {invalid[path]}" if path in invalid else f"valid {valid[path][0]} {path}")
    return 1 if invalid else 0

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

#!/usr/bin/env python3
"""Checks files of Tirami offline. Written from docs/protocol.md alone; needs `cryptography`."""
import argparse
import base64
import hashlib
import json
import re
from datetime import datetime, timedelta
from functools import reduce
from types import SimpleNamespace as Fields
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

CAP, MAX_DOCUMENT, MAX_MANDATE, DAY_MS = 21 * 10**15, 4096, 16384, 24 * 60 * 60 * 1000
SCALARS, PRIME = 2**252 + 27742317777372353535851937790883648493, 2**255 - 19  # of Ed25519
# The y of the points of small order: of order 8 are EIGHTH and its negative; PRIME and PRIME + 1
# are 0 and 1 in a form that is not canonical.
EIGHTH = 0x7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7
SMALL_ORDER = {0, 1, PRIME - 1, PRIME, PRIME + 1, EIGHTH, PRIME - EIGHTH}
REFUSALS = (OSError, ValueError, OverflowError, RecursionError)  # what a bad file can raise
# A field is name:kind=allowed, and 32 bytes when it has no kind. A kind is so many bytes, another
# layout, or one that `read` names; then + means not 0, ? maybe absent, *8 a list of at most 8.
LAYOUTS = dict(layout.strip().split(" = ") for layout in """
quote = version:u8=1 network provider consumer model block:u64 head:u64 attention:u64
    card_window:u32 context:u32 multiplier:u32 max_tokens_in:u32 max_tokens_out:u32
    max_amount:amount chunk:u16 window:u16 issued:u64 expires:u64 nonce:16 signature:64;
agreement = version:u8=1 network kind:u16=1 provider consumer nonce:16 quote ledger:u8=1 hold:16
    model tokens_in:u32 cached:u32 tokens_out:u32 kflop:u64 multiplier:u32 earlier:u64=0
    amount:amount transcript seed:u64 temperature:u32 top_k:u32 lane:u32=0 voucher_seq:u32 audit:u8=0|1
    engine:8 started:u64 ended:u64 finish:u8=1|2|3;
receipt = version:u8=1 quote:bytes agreement:bytes by_provider:64 by_consumer:64;
claim = version:u8=2 quote:bytes agreement:bytes by_provider:64 promise:voucher;
genesis = version:u8=1 name:bytes founded:u64 nonce:16 issuers:issuer*64 witnesses:32*64 price:u32
    welcome:amount term:u64 daily:amount; issuer = node quota:amount;
loan-grant = version:u8=1 network issuer borrower invitation:16 amount:amount granted:u64
    due:u64 signature:64;
voucher = version:u8=1 network hold:16 lane:u32 payee seq:u32+ total:amount tokens:u32 transcript
    signature:64;
mandate = version:u8=1 grants:bytes*4;
grant = version:u8=1 network root parent serial:u64 lo:u64 hi:amount holder pinned:32?
    per_request:u64 ceiling:u32? actions:u32=1 models:32*8 payees:32*8 expires:u64 epoch:u64
    depth:u8 signature:64;
entry = version:u8=1 type:u16=1|2|3|11|13|15|41|50|51|52 flags:u16=0|1 network author seq:u64+ prev
    time:u64 spendable:amount held:amount staked:amount root payload:bytes signature:64;
genesis payload = successor before:link?; link = author seq:u64 entry;
checkpoint payload = digest; succession payload = key;
trade payload = payer agreement:agreement by_provider:64 by_consumer:64;
claim payload = payer agreement:agreement by_provider:64 promise:voucher;
receive payload = payer receipt amount:amount entry;
mint payload = grant:loan-grant; borrow payload = grant:loan-grant;
repay payload = other invitation:16 amount:amount receipt;
retire payload = other invitation:16 amount:amount receipt;
cert = version:u8=1 network epoch:u64=0 author seq:u64 entry votes:vote*64;
vote = witness signature:64;
fraud = version:u8=1 network fraud:u16=1|2|3|4 accused first:bytes second:bytes;
sth = version:u8=1 network node size:u64 hash root time:u64 signature:64;
statement = version:u8=1 network node agent:bytes from:u64 to:u64 opening:amount closing:amount
    lines:u32 lines_root size:u64 root time:u64 signature:64;
anchor = magic:4 version:u8=1 prefix:8 size:u64 time:u64 root""".split(";"))
EVENTS = ("transfer renewed mandate approval freeze quota refused opening token owner").split()
MAX_RECORD, MAX_LINES, MAX_WORD = 24 * 1024, 1000, 128
TRADES = {"trade", "claim"}
NAMES = {  # the fields whose numbers have names, which stand there instead after reading
    "type": {1: "genesis", 2: "checkpoint", 3: "succession", 11: "claim", 13: "trade",
             15: "receive", 41: "repay", 50: "mint", 51: "borrow", 52: "retire"},
    "fraud": {1: "fork", 2: "arithmetic", 3: "voucher_contradiction", 4: "double_agreement"},
    "finish": {1: "stop", 2: "length", 3: "cancelled"}}

def need(holds, reason):
    if not holds:
        raise ValueError(reason)

def expect(document, **truth):
    for name, value in truth.items():
        found = getattr(document, name)
        need(type(found) is type(value) and found == value, f"{document.layout}: {name} is wrong")

def fields(document, names):
    """Some fields of a document; a=b is its field b under the name a."""
    pairs = (name.partition("=")[::2] for name in names.split())
    return {name: getattr(document, field or name) for name, field in pairs}

def sha(data):
    return hashlib.sha256(data).digest()

def number(reader, size, least=0, most=2**64):
    value = int.from_bytes(read(reader, str(size)), "little")
    need(least <= value <= most, f"{reader.what}: the number {value} is out of range")
    return value

def read(reader, kind):
    if kind in LAYOUTS:
        return read_fields(reader, kind)
    if kind[-1] == "?":
        return read(reader, kind[:-1]) if number(reader, 1, most=1) else None
    if "*" in kind:
        kind, most = kind.split("*")
        return [read(reader, kind) for _ in range(number(reader, 4, most=int(most)))]
    if kind == "amount":
        return number(reader, 8, most=CAP)
    if kind[0] == "u":
        return number(reader, int(kind.strip("u+")) // 8, least=kind.count("+"))
    size = number(reader, 4, most=MAX_DOCUMENT) if kind == "bytes" else int(kind)
    need(reader.at + size <= len(reader.data), f"{reader.what}: too short")
    reader.at += size
    return reader.data[reader.at - size:reader.at]

def read_fields(reader, layout):
    """All fields of a layout, and the id, which leaves out signatures."""
    found, start = Fields(layout=layout), reader.at
    for name, kind, allowed in re.findall(r"(\w+):?([^=\s]*)=?(\S*)", LAYOUTS[layout]):
        value = read(reader, kind or "32")
        need(not allowed or str(value) in allowed.split("|"), f"{layout}: {name} is {value}")
        setattr(found, name, NAMES[name][value] if name in NAMES else value)
        if name not in ("signature", "votes"):
            end = reader.at
    found.id = sha(f"trm/v1/{layout}\0".encode() + reader.data[start:end])
    return found

def unhex(what, text):
    plain = type(text) is str and re.fullmatch("([0-9a-fA-F]{2})*", text)
    need(plain, f"{what}: not hexadecimal")
    return bytes.fromhex(text)

def parse(kind, data, limit=MAX_DOCUMENT):
    """What all of these bytes are, or all of this hexadecimal."""
    data = data if type(data) is bytes else unhex(kind, data)
    reader = Fields(data=data, at=0, what=kind)
    found = read(reader, kind)
    need(reader.at == len(data) <= limit, f"{kind}: bytes left over, or more than {limit}")
    return found

def parse_entry(data):
    """An entry. It gets the fields of its payload, and the amount of an agreement or loan there."""
    entry = parse("entry", data)
    payload = parse(f"{entry.type} payload", entry.payload)
    inner = getattr(payload, "agreement", None) or getattr(payload, "grant", payload)
    return Fields(**{"amount": getattr(inner, "amount", 0), **vars(payload), **vars(entry)})

def parse_genesis(data):
    genesis = parse("genesis", data)
    genesis.quotas = {issuer.node: issuer.quota for issuer in genesis.issuers}
    plain = not re.search("[\0-\x1f\x7f-\x9f]", genesis.name.decode())
    need(plain and len(genesis.name) <= 64, "genesis: a long name, or control characters in it")
    need(len(genesis.quotas) == len(genesis.issuers), "genesis: an issuer stands twice")
    need(len(set(genesis.witnesses)) == len(genesis.witnesses) > 0, "genesis: no witness, or twice")
    need(sum(genesis.quotas.values()) == CAP, "genesis: the quotas do not sum to the supply cap")
    return genesis

def signed(document, key, signature=None):
    """Whether `verify_strict` of Ed25519 accepts the signature."""
    signature = signature or document.signature
    points = {int.from_bytes(point, "little") % 2**255 for point in (key, signature[:32])}
    strict = not points & SMALL_ORDER and int.from_bytes(signature[32:], "little") < SCALARS
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, b"trm/v1/sig\0" + document.id)
        return strict
    except (InvalidSignature, ValueError):
        return False

def unique(pairs):
    need(len(dict(pairs)) == len(pairs), "a field stands twice")
    return dict(pairs)

def load(text):
    words = json.loads(text, object_pairs_hook=unique)
    need(type(words) is dict, "not an object of JSON")
    return words

def in_words(name, value):
    """How a file says what the bytes have."""
    if name.startswith("trm_"):
        return f"{value // 10**6}.{value % 10**6:06}".rstrip("0").rstrip(".")
    if name in ("at", "as_of", "ended_at"):
        moment = datetime(1970, 1, 1) + timedelta(milliseconds=value >> 16)
        return moment.isoformat(timespec="milliseconds") + "Z"
    return value.hex() if type(value) is bytes else value

def check_words(words, others="", **truth):
    """Only these fields are there, and what `truth` names is so. A certificate may be absent."""
    known = {*truth, *others.split()}
    need(type(words) is dict, "not an object of JSON")
    odd = sorted(known ^ words.keys())
    need(words.keys() <= known <= {*words, "certificate"}, f"missing or unknown fields: {odd}")
    expect(Fields(layout="words", **words), **{name: in_words(name, truth[name]) for name in truth})

def nominal_kflop(quote, work):
    def attended(count):
        """The sum of min(t, window) for t = 1 to count; without the min when the window is 0."""
        short = min(count, quote.card_window or count)
        return short * (short + 1) // 2 + (count - short) * quote.card_window
    before, cached, out = work.tokens_in, work.cached, work.tokens_out
    seen = attended(before) - attended(cached)
    seen += attended(max(0, before + out - 1)) - attended(max(0, before - 1))
    rows = max(0, before - cached + out - (out > 0))
    return -(-(2 * quote.block * rows + 2 * quote.head * out + quote.attention * seen) // 1000)

def check_work(work, signatures):
    """What holds for an agreement in a receipt and in a trade."""
    need(work.cached <= work.tokens_in, "more tokens cached than there were")
    expect(work, amount=-(-work.kflop * work.multiplier // 10**6))
    need(signed(work, work.provider, signatures.by_provider), "agreement: provider's signature")
    promise = getattr(signatures, "promise", None)  # the voucher that the provider claims by
    if promise:
        expect(promise, **fields(work, "network hold lane payee=provider seq=voucher_seq "
                                 "total=amount tokens=tokens_out transcript"))
        need(signed(promise, work.consumer), "voucher: signature")
    else:
        need(signed(work, work.consumer, signatures.by_consumer), "agreement: consumer's signature")

def job(work):
    """What is settled once: a job of the consumer's hold with the provider."""
    lane = work.lane.to_bytes(4, "little")
    return sha(b"trm/v1/lane\0" + work.consumer + work.hold + lane + work.provider)

def check_receipt(words):
    data = unhex("receipt", words.get("signed"))
    receipt = parse("claim" if data[:1] == b"\2" else "receipt", data)
    quote, work = parse("quote", receipt.quote), parse("agreement", receipt.agreement)
    need(signed(quote, quote.provider), "quote: signature")
    expect(work, **fields(quote, "quote=id network provider consumer model multiplier"),
           kflop=nominal_kflop(quote, work))
    check_work(work, receipt)
    for name in ("tokens_in", "tokens_out", "amount"):
        need(getattr(work, name) <= getattr(quote, f"max_{name}"), f"{name} is above the quote's")
    check_words(words, "signed", tirami_receipt=1, kflop=str(work.kflop), **fields(
        work, "receipt=id network provider consumer model_id=model tokens_in tokens_out finish "
        "multiplier_ppm=multiplier trm_amount=amount ended_at=ended"),
        trm_quoted_max=quote.max_amount)

def check_trade(entry, genesis):
    work, payer = entry.agreement, entry.payer
    need(work.network == genesis.id and entry.amount > 0, "trade: elsewhere, or for nothing")
    need(work.provider not in (work.consumer, payer), "trade: the provider pays itself")
    need(entry.author in (work.provider, payer), "trade: the author has no part in it")
    need(entry.type == "trade" or payer == work.consumer, "claim: another one pays")
    check_work(work, entry)
    waits = entry.author == work.provider and genesis.witnesses not in ([entry.author], [payer])
    expect(entry, flags=int(waits))

def check_loan(entry, genesis):
    grant = entry.grant
    expect(grant, network=genesis.id)
    need(grant.issuer in genesis.quotas and signed(grant, grant.issuer), "loan: not an issuer's")
    need(0 < entry.amount <= genesis.welcome, "loan: nothing, or above the welcome loan")
    need(grant.borrower != grant.issuer, "loan: the issuer borrows from itself")
    expect(entry, author=grant.borrower if entry.type == "borrow" else grant.issuer)
    expect(grant, due=grant.granted + genesis.term)

def check_alone(entry, genesis, successor=None):
    """The rules that need no other entry. In a chain the successor may sign a succession."""
    expect(entry, network=genesis.id, held=0, staked=0)
    need(signed(entry, entry.author) or successor and signed(entry, successor), "entry: signature")
    need((entry.type == "genesis") == (entry.seq == 1), "entry: genesis stands first, only there")
    if entry.type == "genesis":
        expect(entry, prev=genesis.id, root=sha(b""))
        need(entry.before or entry.spendable == 0, "genesis: a chain that begins has nothing")
    if entry.type in TRADES:
        check_trade(entry, genesis)
    else:
        expect(entry, flags=0)
    if entry.type in ("borrow", "mint"):
        check_loan(entry, genesis)
    return entry

def gain(entry):
    """What the entry adds to spendable; negative when it takes."""
    if entry.type in TRADES:
        sold = entry.author == entry.agreement.provider
        return entry.amount * (not entry.flags if sold else -1)
    return entry.amount * {"borrow": 1, "receive": 1, "repay": -1}.get(entry.type, 0)

def digest(state):
    """The digest of a state. Each table is a count and its rows by ascending key."""
    parts = [state.spendable, 0, 0, state.made, state.retired, state.successor]
    for table in (state.loans, state.waiting):
        parts.append(len(table).to_bytes(4, "little"))
        parts += [part for key, row in sorted(table.items()) for part in (key, *row)]
    data = b"".join(part if type(part) is bytes else part.to_bytes(8, "little") for part in parts)
    return sha(b"trm/v1/state\0" + data)

def root_of(trees):
    """The root over all leaves; `trees` are the roots of full trees, the largest first."""
    return reduce(lambda right, left: sha(b"\1" + left + right), reversed(trees or [sha(b"")]))

def grow(trees, count, leaf):
    """Adds a leaf to the trees over as many as `count`."""
    tree = sha(b"\0" + leaf)
    while count & 1:
        tree, count = sha(b"\1" + trees.pop() + tree), count >> 1
    trees.append(tree)

def append(state, entry):
    """Adds an entry that keeps all six rules."""
    last, count, trees = state.last, len(state.entries), state.trees
    key = getattr(entry, "key", None)  # of the successor; only a succession has it
    need(not key or sha(b"trm/v1/successor\0" + key) == state.successor, "not the successor's key")
    check_alone(entry, state.genesis, key)
    need(not count or last.type != "succession", "entry: it follows a succession")
    prev = last.id if count else state.genesis.id
    expect(entry, author=state.node, seq=count + 1, prev=prev, root=root_of(trees))
    need(not last or entry.time > last.time, "entry: the time is not later")
    follow(state, entry)
    state.spendable += gain(entry)
    need(state.spendable >= 0, "entry: it takes more than is spendable")
    expect(entry, spendable=state.spendable)
    state.entries.append(entry)
    state.last = entry
    grow(trees, count, entry.id)

def follow(state, entry):
    """Rule 5 where it depends on the entries before, and what the entry changes."""
    lent = entry.type in ("mint", "retire")
    if entry.type == "genesis":
        link = entry.before and fields(entry.before, "author seq entry")
        last = state.last and fields(state.last, "author seq entry=id")
        need(link == last, "genesis: it names another chain before")
        state.successor = entry.successor
    elif entry.type == "checkpoint":
        expect(entry, digest=digest(state))
    elif entry.type in TRADES:
        need(job(entry.agreement) not in state.once, "trade: the job stands on the chain already")
        state.once.add(job(entry.agreement))
        if entry.flags:
            state.waiting[entry.agreement.id] = (entry.payer, entry.amount)
    elif entry.type == "receive":
        credit = state.waiting.pop(entry.receipt, None)
        need(credit == (entry.payer, entry.amount), "receive: no such credit waits")
    elif entry.type in ("borrow", "mint"):
        grant, other = entry.grant, entry.grant.borrower if lent else entry.grant.issuer
        need(grant.invitation not in state.once, "loan: the invitation stands on the chain already")
        state.once.add(grant.invitation)
        state.loans[grant.invitation] = (bytes([lent]), other, entry.amount)
        if lent:
            mint(state, entry.amount, entry.time >> 16)
    elif entry.type in ("repay", "retire"):
        *loan, owed = state.loans.pop(entry.invitation, (None, 0))
        need(loan == [bytes([lent]), entry.other], f"{entry.type}: no such loan is open")
        need(0 < entry.amount <= owed, f"{entry.type}: nothing, or more than is owed")
        if owed > entry.amount:
            state.loans[entry.invitation] = (*loan, owed - entry.amount)
        state.retired += entry.amount * lent

def mint(state, amount, now):
    """What an issuer makes stays within its quota and the day's most."""
    genesis, quota = state.genesis, state.genesis.quotas[state.node]
    era = sum(quota >> k >= quota - state.made for k in range(1, 65))
    most = min(max(-(-(quota >> (era + 1)) // 1461), genesis.welcome), genesis.daily)
    state.made += amount
    state.mints.append((now, amount))
    need(state.made <= quota, "mint: more than the quota")
    day = sum(made for time, made in state.mints if now - time < DAY_MS)
    need(day <= most, "mint: more than the day's most")

def check_certificate(words, entry, genesis):
    """The assurance of a file: `certified` when it has a certificate over the entry."""
    if "certificate" not in words:
        return "signed"
    cert, count = parse("cert", words["certificate"], 2 * MAX_DOCUMENT), len(genesis.witnesses)
    expect(cert, **fields(entry, "network author seq entry=id"))
    voters = [vote.witness for vote in cert.votes]
    need(voters == sorted(set(voters)), "cert: the witnesses do not ascend")
    need(set(voters) <= set(genesis.witnesses), "cert: a vote is not by a witness")
    need(len(voters) >= count - (count - 1) // 3, "cert: there are too few votes")
    for vote in cert.votes:
        need(signed(cert, vote.witness, vote.signature), "cert: signature")
    return "certified"

def begin_chain(words, state):
    """The first line of a chain. What the chain before left in `state` goes on."""
    need("tirami_chain" in words, "not a file of a known kind")
    state.genesis = parse_genesis(words.get("genesis"))
    state.node = parse("32", words.get("node"))
    check_words(words, "genesis", tirami_chain=1, network=state.genesis.id, node=state.node)
    if state.last:
        need(state.last.type == "succession", "the chain before has no successor")
        expect(state.last, network=state.genesis.id, key=state.node)
    state.entries, state.trees = [], []

def check_chain(text):
    """The entries of each chain: a first line, a line for each entry, a last line; and again."""
    chains, state = [], Fields(spendable=0, made=0, retired=0, successor=b"", loans={}, mints=[],
                               waiting={}, once=set(), last=None, entries=None)
    for line_number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        try:
            words = load(line)
            if state.entries is None:
                begin_chain(words, state)
            elif "entry" in words:
                append(state, parse_entry(words["entry"]))
                said = fields(state.last, "seq type at=time trm_spendable=spendable")
                check_words(words, "entry", **said)
            else:
                need(state.entries, "cut off: there is no entry")
                check_words(words, "certificate", **fields(state.last, "entries=seq head=id"))
                check_certificate(words, state.last, state.genesis)
                chains.append(state.entries)
                state.entries = None
        except REFUSALS as reason:
            raise ValueError(f"line {line_number}: {reason}") from None
    need(state.entries is None, "cut off: there is no last line")
    return chains

def check_balance(words):
    check_words(words, "says genesis entry certificate", tirami_balance=1)
    genesis = parse_genesis(words["genesis"])
    entry = check_alone(parse_entry(words["entry"]), genesis)
    check_words(words["says"], assurance=check_certificate(words, entry, genesis), **fields(
        entry, "network node=author seq head=id as_of=time trm_spendable=spendable trm_held=held "
        "trm_staked=staked"))

def included_root(leaf, index, size, path):
    """The root of a tree of this size that an inclusion proof gives (RFC 9162, 2.1.3)."""
    need((size > 1) == bool(path), "the path is too short or too long")
    if size == 1:
        return sha(b"\0" + leaf)
    split = 1 << ((size - 1).bit_length() - 1)
    if index < split:
        return sha(b"\1" + included_root(leaf, index, split, path[:-1]) + path[-1])
    return sha(b"\1" + path[-1] + included_root(leaf, index - split, size - split, path[:-1]))

def hashes(texts):
    need(type(texts) is list, "not a list of hashes")
    return [parse("32", text) for text in texts]

def check_inclusion(words):
    check_words(words, "says genesis entry head path certificate", tirami_inclusion=1)
    genesis, path = parse_genesis(words["genesis"]), hashes(words["path"])
    entry, head = (check_alone(parse_entry(words[name]), genesis) for name in ("entry", "head"))
    if entry.id == head.id:
        need(not path, "the head is the entry, and there is a path")
    else:
        newer = entry.seq < head.seq and entry.time < head.time and entry.type != "succession"
        need(newer and head.author == entry.author, "the head is not a newer entry of the author")
        expect(head, root=included_root(entry.id, entry.seq - 1, head.seq - 1, path))
    truth = fields(entry, "network node=author seq entry=id type at=time")
    if entry.type in TRADES:
        truth |= fields(entry.agreement, "receipt=id trm_amount=amount")
    assurance = check_certificate(words, head, genesis)
    check_words(words["says"], under=head.seq, assurance=assurance, **truth)

def check_anchored(words):
    check_words(words, "says genesis entry index path payload", tirami_anchored=1)
    genesis, anchor = parse_genesis(words["genesis"]), parse("anchor", words["payload"])
    entry = check_alone(parse_entry(words["entry"]), genesis)
    expect(anchor, magic=b"TRM1", prefix=genesis.id[:8])
    index = words["index"]
    need(type(index) is int and 0 <= index < anchor.size, "index is not a place in the tree")
    leaf = entry.author + entry.seq.to_bytes(8, "little") + entry.id
    expect(anchor, root=included_root(leaf, index, anchor.size, hashes(words["path"])))
    check_words(words["says"], proves="existed_before_the_payload_was_published", at=anchor.time,
                payload=unhex("payload", words["payload"]), **fields(anchor, "chains=size root"),
                **fields(entry, "network node=author seq head=id as_of=time"))

def check_head(text):
    head = parse("sth", text)
    need(signed(head, head.node), "sth: signature")
    return head

def varint(data, at):
    """An integer of 7 bits in each byte, the lowest first, and where it ends."""
    end = next((n for n in range(at, min(at + 10, len(data))) if data[n] < 128), None)
    need(end is not None, "record: a number does not end")
    value = sum((data[n] & 127) << 7 * (n - at) for n in range(at, end + 1))
    need(value < 2**64, "record: a number is too large")
    return value, end + 1

def glance(record):
    """The time and event of a journal's record, which is all that it says to others."""
    need(0 < len(record) <= MAX_RECORD and record[0] == 1, "record: its length or version")
    (time, at), length = varint(record, 1), len(record)
    kind, at = varint(record, at)
    need(kind < len(EVENTS) and (kind != 4 or at < length), "record: not of a known kind")
    return {"at": time << 16, "event": "unfreeze" if kind == 4 and not record[at] else EVENTS[kind]}

def record_hash(before, record):
    return sha(b"trm/v1/journal\0" + before + record)

def whole(words, name, most=2**64):
    value = words.get(name) if type(words) is dict else None
    need(type(value) is int and 1 <= value <= most, f"{name} is not a number from 1 to {most}")
    return value

def check_record(words):
    check_words(words, "says record before path head", tirami_record=1)
    head, before = check_head(words["head"]), parse("32", words["before"])
    seq, record = whole(words["says"], "seq", head.size), unhex("record", words["record"])
    found = record_hash(before, record)
    need(seq > 1 or before == bytes(32), "before: nothing comes before the first")
    need(seq < head.size or found == head.hash, "the hash is not the head's")
    expect(head, root=included_root(found, seq - 1, head.size, hashes(words["path"])))
    check_words(words["says"], seq=seq, hash=found, as_of=head.time << 16, **glance(record),
                **fields(head, "network node size root"))

def grown(first, size, path, root, proved=True):
    """The roots over the first leaves and over all, by a consistency proof (RFC 9162, 2.1.4)."""
    need(len(path) == (not proved) if first == size else path, "the path is too short or too long")
    if first == size:
        return (root, root) if proved else (path[0], path[0])
    split, rest, side = 1 << ((size - 1).bit_length() - 1), path[:-1], path[-1]
    if first <= split:
        old, new = grown(first, split, rest, root, proved)
        return old, sha(b"\1" + new + side)
    old, new = grown(first - split, size - split, rest, root, False)
    return sha(b"\1" + side + old), sha(b"\1" + side + new)

def check_growth(words):
    check_words(words, "says from from_root path head", tirami_growth=1)
    head, root = check_head(words["head"]), parse("32", words["from_root"])
    first = whole(words, "from", head.size)
    roots = grown(first, head.size, hashes(words["path"]), root)
    need(roots == (root, head.root), "the path does not lead from one root to the other")
    check_words(words["says"], from_root=root, as_of=head.time << 16, **{"from": first},
                **fields(head, "network node size root"))

def plain(word):
    """The bytes of a word, which is neither nothing nor long and has no control characters."""
    need(type(word) is str and word and not re.search("[\0-\x1f\x7f-\x9f]", word), "not a word")
    need(len(data := word.encode()) <= MAX_WORD, "a word is too long")
    return len(data).to_bytes(4, "little") + data

def milliseconds(text):
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ") - datetime(1970, 1, 1)
    value = moment // timedelta(milliseconds=1)
    need(in_words("at", value << 16) == text, "not a time")
    return value

def micro(text):
    need(type(text) is str and re.fullmatch(r"\d+(\.\d{1,6})?", text, re.ASCII), "not an amount")
    whole_part, _, rest = text.partition(".")
    value = int(whole_part) * 10**6 + int(rest.ljust(6, "0"))
    need(value <= CAP and in_words("trm_", value) == text, "not an amount")
    return value

def statement_line(words):
    """The bytes of a line, and what counts in it."""
    known = set("seq at reason other trm_in trm_out trm_balance".split())
    need(type(words) is dict and known <= words.keys() <= known | {"agent", "receipt"}, "not a line")
    seq, at = whole(words, "seq", 2**64 - 1), milliseconds(words["at"])
    moves = [micro(words[name]) for name in ("trm_in", "trm_out", "trm_balance")]
    optional = [b"\1" + made(words[name]) if name in words else b"\0" for name, made in (
        ("agent", plain), ("receipt", lambda text: parse("32", text)))]
    numbers = [value.to_bytes(8, "little") for value in (seq, at, *moves)]
    data = b"".join((*numbers[:2], plain(words["reason"]), plain(words["other"]), optional[0],
                     *numbers[2:], optional[1]))
    return data, seq, at, *moves, (words.get("receipt", "").lower(), words["reason"], moves[0] > 0)

def check_statement(words):
    check_words(words, "says genesis lines statement", tirami_statement=1)
    body = parse("statement", words["statement"])
    plain(body.agent.decode())
    need(signed(body, body.node), "statement: signature")
    expect(body, network=parse_genesis(words["genesis"]).id)
    begin, end, balance, trees, legs = getattr(body, "from"), body.to, body.opening, [], set()
    need(begin <= end <= body.time, "statement: it ends before it begins, or after it was signed")
    need(type(words["lines"]) is list and len(words["lines"]) <= MAX_LINES, "too many lines")
    expect(body, lines=len(words["lines"]))
    before, sums = (0, begin), [0, 0]
    for count, row in enumerate(words["lines"]):
        data, seq, at, came, went, after, leg = statement_line(row)
        need(seq > before[0] and at >= before[1], "a line is not after the one before")
        need(at < end, "a line is not in the period")
        need((came == 0) != (went == 0), "a line brings something in or takes it out")
        need(after == balance + came - went, "a line: balance is wrong")
        need(not leg[0] or leg not in legs, "a receipt was counted before")
        before, balance, sums = (seq, at), after, [sums[0] + came, sums[1] + went]
        need(max(sums) <= CAP, "more has moved than there can be")
        legs.add(leg)
        grow(trees, count, data)
    expect(body, closing=balance, lines_root=root_of(trees))
    check_words(words["says"], assurance="signed", as_of=body.time << 16, agent=body.agent.decode(),
                trm_in=sums[0], trm_out=sums[1], **{"from": in_words("at", begin << 16)},
                to=in_words("at", end << 16), **fields(
        body, "network node trm_opening=opening trm_closing=closing lines size root"))

def check_archive(text):
    """A first line, a line for each record, a last line."""
    begin, *lines, end = map(load, text.removesuffix("\n").split("\n"))
    check_words(begin, "network node first before peaks", tirami_archive=1)
    count, trees = whole(begin, "first") - 1, hashes(begin["peaks"])
    before = parse("32", begin["before"])
    need(len(trees) == count.bit_count(), "there are not as many peaks as full trees")
    need(count or before == bytes(32), "before: nothing comes before the first")
    for words in lines:
        record = unhex("record", words.get("record"))
        check_words(words, "record", seq=count + 1, **glance(record))
        before = record_hash(before, record)
        grow(trees, count, before)
        count += 1
    need(lines, "cut off: there is no record")
    check_words(end, "head", records=len(lines))
    expect(check_head(end["head"]), size=count, hash=before, root=root_of(trees),
           network=parse("32", begin["network"]), node=parse("32", begin["node"]))

PROOFS = {  # when two documents that the accused signed prove it
    "fork": lambda one, two: one.seq == two.seq and one.id < two.id,
    "arithmetic": lambda one, two: (one.id, one.seq + 1) == (two.prev, two.seq) and (
        two.time <= one.time or (one.held, one.staked) != (two.held, two.staked)
        or two.type != "genesis" and two.spendable != one.spendable + gain(two)),
    "voucher_contradiction": lambda one, two: (one.seq, one.id) < (two.seq, two.id) and (
        fields(one, "hold lane payee") == fields(two, "hold lane payee")
        and (one.seq == two.seq or two.total < one.total or two.tokens < one.tokens)),
    "double_agreement": lambda one, two: one.seq < two.seq and (
        {one.type, two.type} <= TRADES and job(one.agreement) == job(two.agreement))}

def check_fraud(words):
    check_words(words, "says proof", tirami_fraud=1)
    proof = parse("fraud", words["proof"], 3 * MAX_DOCUMENT)
    vouchers = proof.fraud == "voucher_contradiction"
    both = [parse("voucher", data) if vouchers else parse_entry(data)
            for data in (proof.first, proof.second)]
    for one in both:
        expect(one, network=proof.network)
        need(vouchers or one.author == proof.accused, "entry: it is not on the accused's chain")
        need(signed(one, proof.accused), f"{one.layout}: signature")
    need(PROOFS[proof.fraud](*both), f"the documents do not prove {proof.fraud}")
    check_words(words["says"], **fields(proof, "network accused fraud id"))

def check_narrower(grant, parent):
    expect(grant, **fields(parent, "parent=id network root pinned epoch"))
    for name in ("hi", "per_request", "ceiling", "expires"):
        value, most = getattr(grant, name), getattr(parent, name)
        need(most is None or value is not None and value <= most, f"grant: {name} is not narrower")
    need(parent.lo <= grant.lo and grant.depth < parent.depth, "grant: lo or depth is not narrower")
    for ids, most in ((grant.models, parent.models), (grant.payees, parent.payees)):
        need(not most or ids and set(ids) <= set(most), "grant: models or payees are not narrower")

def check_mandate(text):
    """The text of a mandate: a chain of grants. Whether one is over is not judged."""
    coded = text.removeprefix("tirami-mandate1_")
    data = base64.urlsafe_b64decode(coded + "=" * (-len(coded) % 4))
    need(base64.urlsafe_b64encode(data).decode().rstrip("=") == coded, "not base64url")
    need(sha(data[:-4])[:4] == data[-4:], "the check bytes are wrong")
    grants = [parse("grant", grant) for grant in parse("mandate", data[:-4], MAX_MANDATE).grants]
    need(grants and grants[0].parent == bytes(32), "mandate: no grant, or the first has a parent")
    for parent, grant in zip([None, *grants], grants):
        need(signed(grant, parent.holder if parent else grant.root), "grant: signature")
        need(grant.lo < grant.hi, "grant: the range is empty")
        ascend = all(ids == sorted(set(ids)) for ids in (grant.models, grant.payees))
        need(ascend, "grant: models or payees do not ascend")
        if parent:
            check_narrower(grant, parent)

def verify(path):
    """The kind of a file that holds, and the chains in it."""
    with open(path, "rb") as file:
        text = file.read().decode()
    if text.strip().startswith("tirami-mandate1_"):
        return "mandate", check_mandate(text.strip())
    checks = {"receipt": check_receipt, "balance": check_balance, "inclusion": check_inclusion,
              "fraud": check_fraud, "record": check_record, "growth": check_growth,
              "statement": check_statement, "anchored": check_anchored}
    try:
        words = load(text)
    except ValueError:
        words = {}  # a chain is several objects
    for kind, check in checks.items():
        if f"tirami_{kind}" in words:
            return kind, check(words)
    if "tirami_archive" in load(text.split("\n")[0]):
        return "archive", check_archive(text)
    return "chain", check_chain(text)

def other_side(entry):
    """The network, who pays or lends, and the receipt or loan."""
    if entry.type in ("borrow", "mint"):
        return entry.network, entry.grant.issuer, entry.grant.id
    if entry.type in TRADES:
        return entry.network, entry.payer, entry.agreement.id
    return entry.network, getattr(entry, "payer", None), getattr(entry, "receipt", None)

def disagreements(files):
    """Forks, and credits that the payer or lender does not have, each with its file."""
    chains = sorted((chain for found in files.values() for chain in found), key=len)
    longest = {(chain[0].network, chain[0].author): chain for chain in chains}
    debits = {other_side(one): one.id for chain in longest.values() for one in chain
              if other_side(one)[1] == one.author}
    for path, one in ((path, one) for path in files for chain in files[path] for one in chain):
        if longest[one.network, one.author][one.seq - 1].id != one.id:
            yield path, f"entry {one.seq}: another file has another one, a fork"
        debit = debits.get(other_side(one))
        right = debit == one.entry if one.type == "receive" else debit or one.flags
        if other_side(one)[:2] in longest and not right:
            yield path, f"entry {one.seq}: the other side's chain lacks it"

def main():
    """Prints a line for each file; the status is 0 when all hold, 1 when not, 2 for bad usage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", action="store_true", help="compare the chains with each other")
    parser.add_argument("files", nargs="+", metavar="FILE")
    options = parser.parse_args()
    verdicts, chains = {}, {}
    for path in options.files:
        try:
            kind, found = verify(path)
            verdicts[path], chains[path] = f"valid {kind} {path}", found or []
        except REFUSALS as reason:
            verdicts[path] = f"invalid {path}: {reason}"
    for path, reason in disagreements(chains) if options.ledger else ():
        verdicts[path] = f"invalid {path}: {reason}"
    print("\n".join(verdicts.values()))
    return int(any(verdict.startswith("invalid") for verdict in verdicts.values()))

if __name__ == "__main__":
    raise SystemExit(main())

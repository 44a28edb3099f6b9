// A program that pays with the x402 client under CDP's spend controls. Each POST /spend is one call
// of the wrapped fetch; GET /spent is what the controls have counted.
import { appendFileSync, existsSync, fsyncSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.TORTURE_X402}/package.json`);
const { privateKeyToAccount } = require('viem/accounts');
const { x402Client, wrapFetchWithPayment } = require('@x402/fetch');
const { registerExactEvmScheme } = require('@x402/evm/exact/client');
const { applySpendControls } = require('@coinbase/cdp-sdk/x402');

const USDC = '0x036CbD53842c5426634e7929541eC2318f3dCF7e';
const { LIMIT, WINDOW, LEDGER, SELLER } = process.env;

// The durable store that the SDK asks its users to write: one line an entry, flushed before the
// payment is signed.
class FileStore {
  constructor(path) {
    this.file = openSync(path, 'a');
    const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
    this.entries = lines.map((line) => {
      const entry = JSON.parse(line);
      return { ...entry, atomicAmount: BigInt(entry.atomicAmount) };
    });
  }

  async load() {
    return [...this.entries];
  }

  async append(entry) {
    const line = JSON.stringify({ ...entry, atomicAmount: entry.atomicAmount.toString() });
    appendFileSync(this.file, `${line}\n`);
    fsyncSync(this.file);
    this.entries.push(entry);
  }
}

const account = privateKeyToAccount(process.env.KEY);
const client = new x402Client();
registerExactEvmScheme(client, { signer: account });
const store = new FileStore(LEDGER);
applySpendControls(client, {
  maxAmountPerPayment: { atomic: 10_000n, asset: USDC },
  maxCumulativeSpend: { atomic: BigInt(LIMIT), asset: USDC },
  ...(WINDOW ? { maxCumulativeSpendWindow: WINDOW } : {}),
  allowedNetworks: ['eip155:84532'],
  store,
});
const pay = wrapFetchWithPayment(fetch, client);

async function spend() {
  try {
    const response = await pay(`${SELLER}/thing`);
    return { status: response.status === 200 ? 'accepted' : 'unknown', text: `${response.status}` };
  } catch (error) {
    const refused = /cumulative spend/.test(`${error.message}`);
    return { status: refused ? 'refused' : 'unknown', text: `${error.message}` };
  }
}

createServer(async (request, response) => {
  if (request.url === '/spend') return response.end(JSON.stringify(await spend()));
  const spent = store.entries.reduce((sum, entry) => sum + entry.atomicAmount, 0n);
  return response.end(JSON.stringify({ spent: Number(spent), now: Date.now() / 1_000, payer: account.address }));
}).listen(Number(process.env.PORT), '127.0.0.1', 2_048);

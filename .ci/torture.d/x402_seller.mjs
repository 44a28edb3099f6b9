// A resource server for x402 v2 with its own facilitator: it checks the signature and the nonce of
// each payment, keeps count of what each payer paid, and settles on no chain.
//
//   GET /thing             costs PRICE
//   GET /paid?payer=0x...  what the payer paid
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const require = createRequire(`${process.env.TORTURE_X402}/package.json`);
const { verifyTypedData } = require('viem');
const { decodePaymentSignatureHeader, encodePaymentRequiredHeader, encodePaymentResponseHeader } =
  require('@x402/core/http');

const USDC = '0x036CbD53842c5426634e7929541eC2318f3dCF7e';
const PAYEE = '0x209693Bc6afc0C5328bA36FaF03C514EF312287C';
const ACCEPTS = {
  scheme: 'exact',
  network: 'eip155:84532',
  amount: process.env.PRICE,
  asset: USDC,
  payTo: PAYEE,
  maxTimeoutSeconds: 60,
  extra: { name: 'USDC', version: '2' },
};
const TYPES = {
  TransferWithAuthorization: [
    { name: 'from', type: 'address' },
    { name: 'to', type: 'address' },
    { name: 'value', type: 'uint256' },
    { name: 'validAfter', type: 'uint256' },
    { name: 'validBefore', type: 'uint256' },
    { name: 'nonce', type: 'bytes32' },
  ],
};

const nonces = new Set();
const paid = new Map();

async function holds({ authorization, signature }) {
  return verifyTypedData({
    address: authorization.from,
    domain: { name: 'USDC', version: '2', chainId: 84532, verifyingContract: USDC },
    types: TYPES,
    primaryType: 'TransferWithAuthorization',
    message: authorization,
    signature,
  });
}

function asksForPayment(request, response) {
  const resource = { url: `http://${request.headers.host}/thing`, description: 'a thing', mimeType: 'application/json' };
  const required = { x402Version: 2, error: 'payment required', resource, accepts: [ACCEPTS] };
  response.writeHead(402, { 'PAYMENT-REQUIRED': encodePaymentRequiredHeader(required) }).end('{}');
}

async function sells(request, response) {
  const header = request.headers['payment-signature'];
  if (!header) return asksForPayment(request, response);
  const { payload } = decodePaymentSignatureHeader(header);
  const { from, to, value, nonce } = payload.authorization;
  const good = to === PAYEE && value === ACCEPTS.amount && !nonces.has(nonce) && (await holds(payload));
  if (!good || nonces.has(nonce)) return asksForPayment(request, response);
  nonces.add(nonce);
  paid.set(from, (paid.get(from) ?? 0) + Number(value));
  // The time that an answer takes.
  await new Promise((done) => setTimeout(done, 50));
  const settled = { success: true, transaction: nonce, network: ACCEPTS.network, payer: from };
  response.writeHead(200, { 'PAYMENT-RESPONSE': encodePaymentResponseHeader(settled) }).end('{}');
}

createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost');
  if (url.pathname === '/thing') return sells(request, response);
  return response.end(JSON.stringify({ paid: paid.get(url.searchParams.get('payer')) ?? 0 }));
}).listen(Number(process.env.PORT), '127.0.0.1');

#!/usr/bin/env node
// Prisma's own query engine, in the WebAssembly build that npm carries, behind the HTTP that its
// native build speaks to the Python client: the native one is only to be had from a download site.
//
// The WebAssembly build leaves out the GraphQL parser, so queries are rewritten into the engine's
// other, JSON protocol. Nothing here knows what they mean.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';

const COMMIT = '393aa359c9ad4a4bb28630fb5613f9c281cde053';
if (process.argv.includes('--version')) {
  console.log(`query-engine ${COMMIT}`);
  process.exit(0);
}
// Asked for as the schema engine, which it is not.
if (!process.argv.includes('-p')) process.exit(1);

const ACTION =
  /^(findUnique|findFirst|findMany|createOne|createMany|updateOne|updateMany|upsertOne|deleteOne|deleteMany|aggregate|groupBy|executeRaw|queryRaw)(.*?)(OrThrow)?$/;
const TOKEN = /\s*(?:,\s*)*("(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|[A-Za-z_]\w*|[{}()[\]:])/y;

function tokens(text) {
  const found = [];
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(text); match; match = TOKEN.exec(text)) found.push(match[1]);
  return found;
}

// Which fields of which model are JSON: the other protocol wants their values marked.
function jsonFields(datamodel) {
  const models = {};
  for (const [, name, body] of datamodel.matchAll(/^model (\w+) \{$(.*?)^\}/gms)) {
    models[name] = new Set([...body.matchAll(/^\s+(\w+)\s+Json\b/gm)].map(([, field]) => field));
  }
  return models;
}

// Reads 'query { result: findManyThing (arguments) { selection } }' into a query of the JSON protocol.
function rewrite(text, json) {
  const words = tokens(text);
  let at = 0;
  let isJson = new Set();
  const next = () => words[at++];
  const expect = (word) => {
    if (words[at] !== word) throw new Error(`'${word}' expected, not '${words[at]}', in ${text}`);
    at += 1;
  };

  function value() {
    const word = next();
    if (word === '{') return fields('}');
    if (word === '[') {
      const list = [];
      while (words[at] !== ']') list.push(value());
      at += 1;
      return list;
    }
    // What is not JSON is the name of an enum's variant.
    return /^(["\d-]|true$|false$|null$)/.test(word) ? JSON.parse(word) : word;
  }

  function fields(end) {
    const object = {};
    while (words[at] !== end) {
      const name = next();
      expect(':');
      const given = value();
      const marked = isJson.has(name) && typeof given === 'string';
      object[name] = marked ? { $type: 'Json', value: given } : given;
    }
    at += 1;
    return object;
  }

  function selected() {
    const found = {};
    if (words[at] === '(') {
      at += 1;
      found.arguments = fields(')');
    }
    found.selection = {};
    if (words[at] === '{') {
      at += 1;
      while (words[at] !== '}') {
        const name = next();
        const inner = words[at] === '(' || words[at] === '{' ? selected() : true;
        found.selection[name] = inner;
      }
      at += 1;
    }
    return found;
  }

  next(); // query or mutation
  expect('{');
  expect('result');
  expect(':');
  const [, action, modelName, orThrow] = ACTION.exec(next());
  isJson = json[modelName] ?? isJson;
  const query = { action: action + (orThrow ?? ''), query: selected() };
  return modelName ? { ...query, modelName } : query;
}

// The JSON protocol tags values with their types, the GraphQL one does not.
function untag(value) {
  if (Array.isArray(value)) return value.map(untag);
  if (value === null || typeof value !== 'object') return value;
  if ('$type' in value) return value.value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, untag(inner)]));
}

// Rows of a raw query, as the client's own, older version of the engine would say them.
function cell(type, value) {
  if (value === null) return { prisma__type: 'null', prisma__value: null };
  const inner = /^(.*)-array$/.exec(type)?.[1];
  if (inner) return { prisma__type: 'array', prisma__value: value.map((one) => cell(inner, one)) };
  return { prisma__type: type, prisma__value: type === 'json' ? parsed(value) : value };
}

function parsed(value) {
  return typeof value === 'string' ? JSON.parse(value) : value;
}

function raw({ columns, types, rows }) {
  const pairs = (row) => columns.map((name, at) => [name, cell(types[at], row[at])]);
  return rows.map((row) => Object.fromEntries(pairs(row)));
}

function answer(said) {
  if (said.batchResult) return { batchResult: said.batchResult.map(answer) };
  if (!said.data) return said;
  const [[name, result]] = Object.entries(said.data);
  return { data: { result: name === 'queryRaw' ? raw(result) : untag(result) } };
}

function start() {
  const require = createRequire(`${process.env.TORTURE_PRISMA}/package.json`);
  const runtime = '@prisma/client/runtime/query_engine_bg.postgresql';
  const engine = require(`${runtime}.js`);
  const code = new WebAssembly.Module(readFileSync(require.resolve(`${runtime}.wasm`)));
  engine.__wbg_set_wasm(new WebAssembly.Instance(code, { './query_engine_bg.js': engine }).exports);
  const { Pool } = require('pg');
  const { PrismaPg } = require('@prisma/adapter-pg');
  const { bindAdapter } = require('@prisma/driver-adapter-utils');
  const url = new URL(process.env.DATABASE_URL);
  url.search = ''; // what stands there is for the native engine's own pool
  const pool = new Pool({ connectionString: url.href, max: 10 });
  const datamodel = readFileSync(process.env.PRISMA_DML_PATH, 'utf8');
  const options = {
    datamodel,
    logLevel: 'error',
    logQueries: false,
    env: process.env,
    configDir: '.',
    ignoreEnvVarErrors: true,
    engineProtocol: 'json',
    datasourceOverrides: {},
  };
  const built = new engine.QueryEngine(options, () => {}, bindAdapter(new PrismaPg(pool)));
  return { engine: built, json: jsonFields(datamodel) };
}

async function serve({ engine, json }, request, body) {
  const transaction = request.headers['x-transaction-id'];
  const [, path, id, step] = request.url.split('?')[0].split('/');
  if (path === 'status') return { status: 'ok' };
  if (path === 'metrics') return { counters: [], gauges: [], histograms: [] };
  if (path === 'transaction') {
    if (id === 'start') return JSON.parse(await engine.startTransaction(body, '{}'));
    const end = step === 'commit' ? 'commitTransaction' : 'rollbackTransaction';
    return JSON.parse(await engine[end](id, '{}'));
  }
  const asked = JSON.parse(body);
  const query = asked.batch
    ? { batch: asked.batch.map((one) => rewrite(one.query, json)), transaction: asked.transaction ? {} : undefined }
    : rewrite(asked.query, json);
  return answer(JSON.parse(await engine.query(JSON.stringify(query), '{}', transaction)));
}

const started = start();
await started.engine.connect('{}');
const server = createServer(async (request, response) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  try {
    const said = await serve(started, request, Buffer.concat(pieces).toString());
    response.writeHead(said.error_code ? 422 : 200, { 'content-type': 'application/json' });
    response.end(JSON.stringify(said));
  } catch (error) {
    console.error(`query engine: ${error.stack}`);
    response.writeHead(500).end(String(error));
  }
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[process.argv.indexOf('-p') + 1]));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(0));

// What a relay costs beside haproxy: processor time for the same bytes, memory of idle clients, added latency.
// The server has core 0, the load core 1; rounds alternate, medians count. haproxy takes TLS in and gives TLS out,
// as a relay must for two devices; `terminateOnly` is haproxy with plain TCP behind it: half of the encryption. haproxy
// is told to speak the cipher that our relay prefers; `ownCipher` is haproxy as it comes.
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { connect } from "node:tls";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { generate } from "selfsigned";

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean" },
    rounds: { type: "string", default: "5" },
    megabytes: { type: "string", default: "1000" },
    only: { type: "string", default: "pair,hundred,idle,latency" },
  },
});
const rounds = Number(options.rounds);
const megabytes = Number(options.megabytes);
const only = options.only.split(",");
const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = mkdtempSync(join(tmpdir(), "exn-rl-bench-"));
const say = (line) => process.stderr.write(`${line}\n`);
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const round = (number, digits = 3) => Number(number.toFixed(digits));
const [SERVER_CORE, LOAD_CORE] = ["0", "1"];
const PORTS = { haproxy: 24_431, haproxyTls: 24_432, sink: 24_433, sinkTls: 24_434, own: 24_435, ownTls: 24_436 };
const CIPHER = "TLS_AES_128_GCM_SHA256"; // the first of CIPHERS in src/sys/streamserver.ts
/** As templates/exitnode-relay.service sets them. */
const unit = readFileSync(join(root, "templates/exitnode-relay.service.hbs"), "utf8");
const nodeFlags = /ExecStart=\S+ (.*) \S+$/m.exec(unit)[1].split(" ");
const environment = Object.fromEntries(
  [...unit.matchAll(/^Environment=(MALLOC.*)$/gm)].flatMap(([, line]) =>
    line.split(" ").map((pair) => pair.split("=")),
  ),
);

let haproxy;
try {
  haproxy = execFileSync("haproxy", ["-v"], { encoding: "utf8" }).split("\n")[0];
} catch {
  throw new Error("haproxy is missing: apt-get install --no-install-recommends haproxy");
}

await build({
  entryPoints: { relay: join(root, "src/relaymain.ts"), load: join(root, "test/relay/benchload.ts") },
  outdir: folder,
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  minify: true,
  external: ["koffi", "cpu-features", "libsql"],
  banner: {
    js: "import { createRequire as exnRequire } from 'node:module';const require = exnRequire(import.meta.url);const __dirname = import.meta.dirname;",
  },
});
writeFileSync(join(folder, "package.json"), '{"type":"module"}');

const tls = await generate([{ name: "commonName", value: "localhost" }], {
  keyType: "ec",
  curve: "P-256",
  algorithm: "sha256",
});
const pem = join(folder, "both.pem");
writeFileSync(pem, tls.private + tls.cert);
const signer = randomBytes(32).toString("hex");

const children = new Set();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});
process.on("SIGINT", () => process.exit(130));

function start(command, args, env = {}) {
  const child = spawn("taskset", ["-c", SERVER_CORE, command, ...args], {
    // And nothing of the caller's: of NODE_EXTRA_CA_CERTS alone, every Node keeps one MB.
    env: { PATH: process.env.PATH, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  children.add(child);
  child.said = "";
  child.stderr.on("data", (chunk) => {
    child.said += chunk;
  });
  return child;
}

async function startRelay() {
  const [etc, variable] = [join(folder, "etc"), join(folder, "var")];
  mkdirSync(etc, { recursive: true });
  const { ed25519PublicKeyOf } = await signerModule();
  const config = {
    listen: { address: "127.0.0.1", port: 0 },
    stunPort: 0,
    coordinatorKeys: [Buffer.from(ed25519PublicKeyOf(Buffer.from(signer, "hex"))).toString("base64")],
    bytesPerSecondMax: 1_250_000_000,
    tls: { key: join(folder, "key.pem"), certificate: join(folder, "cert.pem") },
  };
  writeFileSync(config.tls.key, tls.private);
  writeFileSync(config.tls.certificate, tls.cert);
  writeFileSync(join(etc, "relay.json"), JSON.stringify(config));
  const child = start(process.execPath, [...nodeFlags, join(folder, "relay.js")], {
    ...environment,
    EXITNODE_ETC: etc,
    EXITNODE_VAR: variable,
    EXITNODE_LOG: "info",
  });
  for (let i = 0; ; i++) {
    const line = child.said.split("\n").find((text) => text.includes("relay listens"));
    if (line !== undefined) return { child, pid: child.pid, ...JSON.parse(line) };
    if (i > 100 || child.exitCode !== null) throw new Error(`the relay did not start: ${child.said}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function signerModule() {
  await build({
    entryPoints: [join(root, "src/kit/crypto.ts")],
    outfile: join(folder, "crypto.js"),
    bundle: true,
    format: "esm",
    platform: "node",
  });
  return import(join(folder, "crypto.js"));
}

function startHaproxy(port, tlsPort, settings) {
  const path = join(folder, `haproxy-${port}.cfg`);
  writeFileSync(
    path,
    `global
  nbthread 1
  maxconn 4000
${settings}
defaults
  mode tcp
  timeout connect 5s
  timeout client 1m
  timeout server 1m
listen plain
  bind 127.0.0.1:${port} ssl crt ${pem}
  server sink 127.0.0.1:${PORTS.sink}
listen tls
  bind 127.0.0.1:${tlsPort} ssl crt ${pem}
  server sink 127.0.0.1:${PORTS.sinkTls} ssl verify none
`,
  );
  return start("haproxy", ["-f", path, "-db"]);
}

let relay;
function load(what, extra) {
  const want = {
    do: what,
    relayKey: relay.publicKey,
    signer,
    certificate: tls.cert,
    key: tls.private,
    pairs: 1,
    megabytes,
    ...extra,
  };
  const child = spawn("taskset", ["-c", LOAD_CORE, process.execPath, join(folder, "load.js"), JSON.stringify(want)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.add(child);
  let said = "";
  child.stdout.on("data", (chunk) => {
    said += chunk;
  });
  return new Promise((resolve, reject) => {
    child.on("close", (code) =>
      code === 0 ? resolve(JSON.parse(said)) : reject(new Error(`the load ended with ${code}`)),
    );
  });
}

/** What a client of ours and the server at the port agree on. */
function cipherAt(port) {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", rejectUnauthorized: false }, () => {
      resolve(socket.getCipher().name);
      socket.destroy();
    });
    socket.on("error", reject);
  });
}

async function compare(pairs) {
  const found = { relay: [], haproxyTls: [], haproxy: [], ownCipher: [] };
  for (let i = 0; i < rounds; i++) {
    found.relay.push(await load("relay", { port: relay.port, serverPid: relay.pid, pairs }));
    const ports = { serverPid: proxy.pid, pairs };
    found.haproxyTls.push(await load("haproxy-tls", { port: PORTS.haproxyTls, sinkPort: PORTS.sinkTls, ...ports }));
    found.haproxy.push(await load("haproxy", { port: PORTS.haproxy, sinkPort: PORTS.sink, ...ports }));
    found.ownCipher.push(
      await load("haproxy-tls", { port: PORTS.ownTls, sinkPort: PORTS.sinkTls, serverPid: ownProxy.pid, pairs }),
    );
    say(
      `${pairs} pairs, round ${i + 1}: ${Object.entries(found)
        .map(
          ([name, list]) =>
            `${name} ${list.at(-1).cpuSecondsPerGB.toFixed(3)} s/GB ${list.at(-1).gigabytesPerSecond.toFixed(3)} GB/s`,
        )
        .join(", ")}`,
    );
  }
  const cost = (name) => median(found[name].map((one) => one.cpuSecondsPerGB));
  const rate = (name) => median(found[name].map((one) => one.gigabytesPerSecond));
  return {
    ratio: round(cost("haproxyTls") / cost("relay")),
    terminateOnlyRatio: round(cost("haproxy") / cost("relay")),
    ownCipherRatio: round(cost("ownCipher") / cost("relay")),
    cpuSecondsPerGB: {
      ours: round(cost("relay")),
      baseline: round(cost("haproxyTls")),
      terminateOnly: round(cost("haproxy")),
      ownCipher: round(cost("ownCipher")),
    },
    gigabytesPerSecond: {
      ours: round(rate("relay")),
      baseline: round(rate("haproxyTls")),
      terminateOnly: round(rate("haproxy")),
    },
  };
}

const result = { bench: "relay", baseline: haproxy };
const proxy = startHaproxy(
  PORTS.haproxy,
  PORTS.haproxyTls,
  `  ssl-default-bind-ciphersuites ${CIPHER}\n  ssl-default-server-ciphersuites ${CIPHER}`,
);
const ownProxy = startHaproxy(PORTS.own, PORTS.ownTls, "");
relay = await startRelay();
result.ciphers = {
  ours: await cipherAt(relay.port),
  baseline: await cipherAt(PORTS.haproxyTls),
  ownCipher: await cipherAt(PORTS.ownTls),
};
result.loadAverage = round(loadavg()[0], 1);
if (only.includes("pair")) {
  result.onePair = await compare(1);
  result.cpuSecondsPerGB = result.onePair.cpuSecondsPerGB;
}
if (only.includes("hundred")) result.hundredPairs = await compare(100);
if (only.includes("latency")) {
  const through = [];
  const direct = [];
  for (let i = 0; i < rounds; i++) {
    through.push((await load("latency", { port: relay.port })).medianMs);
    direct.push((await load("latency-direct", { sinkPort: PORTS.sinkTls })).medianMs);
  }
  result.addedLatencyMs = round(median(through) - median(direct));
}
if (only.includes("idle")) {
  relay.child.kill("SIGTERM");
  relay = await startRelay(); // a fresh one: what the load left behind is not the idle clients'
  const { emptyMiB, idleMiB } = await load("idle", { port: relay.port, serverPid: relay.pid });
  Object.assign(result, { emptyMiB: round(emptyMiB, 1), idle1000MiB: round(idleMiB, 1) });
}
if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
else say(JSON.stringify(result, null, 2));
process.exit(0);

import assert from "node:assert/strict";
import { PLACES, type Place, parseTraceroute, placeHops } from "../../src/agent/hops.js";
import { parseDump } from "../../src/agent/kernelwireguard.js";
import { emptyReply, isReplyTo, RCODE, readQuery } from "../../src/agent/names/message.js";
import { configSchema, parseCredentials, parseFile } from "../../src/cli/config.js";
import { fromHex, toHex, utf8 } from "../../src/kit/bytes.js";
import { hash, keyPairOf } from "../../src/kit/crypto.js";
import { tryEndpoint } from "../../src/kit/endpoint.js";
import { Failure } from "../../src/kit/failure.js";
import { type Cidr, type Ip, tryCidr, tryIp } from "../../src/kit/ip.js";
import { tryJson } from "../../src/kit/json.js";
import { keyOf } from "../../src/kit/key.js";
import { encodeRelease, parseLeases } from "../../src/lab/lease.js";
import { type Observation, observeHostNet, readHostNet } from "../../src/netconf/hostnetobserve.js";
import { readResolvers } from "../../src/netconf/resolvconf.js";
import { hostKeyIn } from "../../src/provision/hostkey.js";
import { readIdentity, writeIdentity } from "../../src/provision/identity.js";
import { parseUpid, upidParts } from "../../src/pve/upid.js";
import { agentConfig } from "../../src/wire/agentconfig.js";
import { agentAnswer, agentRequest, agentStatus } from "../../src/wire/agentsocket.js";
import { decodeToCoordinator, decodeToDevice, encodeControl } from "../../src/wire/control.js";
import { coordinatorConfig } from "../../src/wire/coordinatorconfig.js";
import { decodeJoinKey, encodeJoinKey } from "../../src/wire/joinkey.js";
import { initiate, respond } from "../../src/wire/noise.js";
import { bytes, type Target, text } from "./harness.js";
import { lockRecordOfOurs, lockTargets } from "./locktargets.js";
import { pathTargets } from "./pathtargets.js";
import { wireGuardTargets } from "./wireguardtargets.js";

/**
 * Everything that reads what others wrote, and what must hold of it whatever it is given. A new decoder is one more
 * line in targets(): bytes(name, [valid examples], (input) => …) or text(…), throwing what does not hold.
 */
const SECRET = "S3CR3Tq9ZxW7vU5tR3pN1mL9kJ7hG5fD3sA1";
const pair = (seed: string) => keyPairOf(hash(utf8(seed)));
const publicKey = keyOf(pair("coordinator").publicKey);
const peerKey = keyOf(pair("peer").publicKey);

/** Runs what may refuse; whatever else it throws goes through. */
function refusing<T>(code: string, run: () => T): T | Failure {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    assert.equal(error.code, code);
    assert.ok(!error.message.includes(SECRET), `the message quotes the secret: ${error.message}`);
    assert.ok(!error.advice?.includes(SECRET), "the advice quotes the secret");
    return error;
  }
}

const report = {
  endpoints: ["203.0.113.7:51820", "[2001:db8::7]:51820"],
  routes: ["0.0.0.0/0" as Cidr],
  resolvers: [],
};
const upward = [
  encodeControl({ type: "hello", version: 1, agentVersion: "0.1.0", name: "laptop", publicKey, report }),
  encodeControl({ type: "report", report }),
  encodeControl({ type: "ping", sentAt: 12.5 }),
];
const downward = [
  encodeControl({ type: "welcome", deviceId: "d1", coordinatorVersion: "0.1.0" }),
  encodeControl({ type: "refused", code: "device-revoked", message: "this device was revoked" }),
  encodeControl({
    type: "map",
    map: {
      seq: 7,
      self: { id: "d1", name: "laptop", role: "device", addresses: ["100.64.0.2" as Ip, "fd00::2" as Ip] },
      ranges: ["100.64.0.0/10" as Cidr],
      mtu: 1280,
      peers: [
        {
          id: "d0",
          name: "home",
          role: "exit-node",
          publicKey,
          addresses: ["100.64.0.1" as Ip],
          routes: ["0.0.0.0/0" as Cidr],
          endpoints: ["203.0.113.7:51820"],
          resolvers: ["100.64.0.1" as Ip],
          online: true,
        },
      ],
    },
  }),
];

const responder = pair("coordinator");
const prologue = utf8("fuzz");
const asked = initiate({
  local: pair("device"),
  remotePublic: responder.publicKey,
  prologue,
  ephemeral: pair("ephemeral"),
});
const answer = (message: Uint8Array) => respond({ local: responder, prologue, ephemeral: pair("other"), message });
const answered = answer(asked.message) ?? assert.fail("the genuine message is answered");
const frame = answered.transport.seal(utf8("a message of the coordinator"));
const same = (left: Uint8Array, right: Uint8Array): boolean => toHex(left) === toHex(right);

/** One altered frame ends a session, and a session costs two key agreements: so many frames are given to each. */
const FRAMES_PER_SESSION = 4;

function transportFrames(): Target {
  let session = asked.finish(answered.reply);
  let given = 0;
  return bytes("Noise: transport frame", [frame], (input) => {
    if (given++ % FRAMES_PER_SESSION === 0) session = asked.finish(answered.reply);
    if (!same(input, frame)) assert.equal(session?.open(input), undefined);
    else if (session?.open(input) === undefined)
      assert.notEqual(given % FRAMES_PER_SESSION, 1, "the genuine one opens");
  });
}

const noise = (): Target[] => [
  bytes("Noise: first message", [asked.message], (input) => {
    if (!same(input, asked.message)) assert.equal(answer(input), undefined);
  }),
  bytes("Noise: reply", [answered.reply], (input) => {
    if (!same(input, answered.reply)) assert.equal(asked.finish(input), undefined);
  }),
  transportFrames(),
];

const TRACEROUTE = `traceroute to whoami.lab (198.51.100.80), 30 hops max, 60 byte packets
 1  home.exitnode (100.64.0.1)  12.345 ms
 2  *
 3  core.example.net (2001:db8::1%eth0)  0.1 ms
 4  198.51.100.80 (198.51.100.80)  3 ms
`;
const LEASES = `1795000000 bc:24:11:00:00:01 198.18.77.101 home 01:bc:24:11:00:00:01
1795000000 bc:24:11:00:00:02 198.18.77.102 * *
duid 00:01:00:01:2f
1795000000 12345 2001:db8:77::101 home 00:01:00:01
`;
const DUMP = `${SECRET}\t${publicKey}\t51820\t0x450000
${peerKey}\t(none)\t203.0.113.7:51820\t100.64.0.1/32,0.0.0.0/0\t1795000000\t1024\t2048\t25
${publicKey}\t${SECRET}\t(none)\t(none)\t0\t0\t0\toff
`;
const UPID = "UPID:pve1:0009B9C8:0A1B2C3D:6911F3A0:vzcreate:101:exitnode@pve!cli:";
const HOST_KEY = `Creating SSH host key 'ssh_host_ecdsa_key' - this may take some time ...
done: SHA256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa root@home
Creating SSH host key 'ssh_host_ed25519_key' - this may take some time ...
done: SHA256:byYAwfZL50qjC+C2jZ2MZiQ0QTTYVe1QovSWRbFkSZc root@home
TASK OK
`;
const identity = { id: "5f1c", name: "home", hostKey: "SHA256:x", given: { memory: 1024 } };
const DESCRIPTIONS = [
  "",
  "my notes\n\nmore",
  writeIdentity("before\n\n", identity),
  `${writeIdentity("", identity)}\n\nafter`,
];

const OBSERVED: { readonly [name in Observation]: readonly string[] } = {
  addresses: [
    `[{"ifname":"exn0","flags":["POINTOPOINT","UP"],"mtu":1280,"addr_info":[{"local":"100.64.0.2","prefixlen":32,"scope":"global"}]}]`,
  ],
  rules4: [`[{"priority":5310,"src":"all","fwmark":"0x450000","table":"main"},{"priority":5350,"table":"5182"}]`],
  rules6: [`[{"priority":5335,"dst":"fe80::","dstlen":10,"table":"main"},{"priority":5360,"action":"unreachable"}]`],
  routes4: [`[{"dst":"default","dev":"exn0","flags":[]},{"dst":"100.64.0.0/10","dev":"exn0"}]`],
  routes6: [`[{"dst":"default","dev":"exn0"},{"dst":"fd7e:1::/48","dev":"exn0"}]`],
  bridges: [
    `[{"ifname":"docker0","flags":["UP"],"mtu":1500,"addr_info":[{"local":"172.17.0.1","prefixlen":16,"scope":"global"}]}]`,
  ],
  ways4: [`[{"dst":"default","gateway":"192.168.7.1","dev":"eth0","flags":[]}]`],
  ways6: ["[]"],
  dns: [
    `table inet exitnode_dns {\n\tcomment "to 100.64.0.1"\n\tchain dns_redirect {\n\t\toifname "lo" accept\n\t}\n}\n`,
  ],
  inbound: [`table inet exitnode_inbound {\n\tcomment "exitnode: 00"\n\tchain answered {\n\t\taccept\n\t}\n}\n`],
  rpFilter: ["/proc/sys/net/ipv4/conf/all/rp_filter:0\n/proc/sys/net/ipv4/conf/eth0/rp_filter:1\n"],
  ip6Off: ["0\n", "1\n"],
};

const NAMES = observeHostNet("exn0").map(({ name }) => name);
/** Between two programs' outputs; a mutation that moves it makes one program say what another should. */
const CUT = "\n\f\n";
const outputsAre = (pick: number): string =>
  NAMES.map((name) => OBSERVED[name][pick % OBSERVED[name].length]).join(CUT);

const hostNet = text("what ip, nft and sysctl print", [outputsAre(0), outputsAre(1)], (input) => {
  const printed = input.split(CUT);
  const outputs = Object.fromEntries(
    NAMES.map((name, i) => [name, { exitCode: printed[i] === undefined ? 1 : 0, stdout: printed[i] ?? "" }]),
  ) as { [name in Observation]: { exitCode: number; stdout: string } };
  readHostNet("exn0", outputs, {});
});

/** The A of laptop.home.example, with EDNS. */
const DNS_QUESTION =
  fromHex("000701000001000000000001066c6170746f7004686f6d65076578616d706c65000001000100002904d0000000000000") ??
  new Uint8Array();

const AGENT_YAML = `name: laptop
role: device
coordinator: { urls: ["https://a.b"], publicKey: ${publicKey} }
`;
const COORDINATOR_YAML = `listen: { port: 443 }
urls:
  - https://a.b
adminTokenSha256: ${"ab".repeat(32)}
`;
const CONFIG_YAML = `hosts:
  pve1:
    url: https://a.b:8006
    fingerprint: ${"AB:".repeat(31)}CD
    login: a@pve!b
`;
const CREDENTIALS_YAML = `hosts:
  pve1:
    secret: ${SECRET}
coordinator:
  adminToken: ${SECRET}
`;

function yaml(path: string, example: string, parse: (path: string, text: string) => unknown): Target {
  return text(path, [example], (input) => {
    const result = refusing("config-invalid", () => parse(path, input));
    if (!(result instanceof Failure)) return;
    const line = Number(new RegExp(`^${path} line (\\d+): `).exec(result.message)?.[1]);
    assert.ok(line >= 1 && line <= input.split(/\r\n|\r|\n/).length, `no such line: ${result.message}`);
  });
}

export function targets(): readonly Target[] {
  return [
    text(
      "join key",
      [{}, { record: lockRecordOfOurs }].map((more) =>
        encodeJoinKey({ coordinatorKey: publicKey, urls: ["https://203.0.113.7"], secret: SECRET, ...more }),
      ),
      (input) => refusing("join-key-invalid", () => decodeJoinKey(input)),
    ),
    bytes("control message to the coordinator", upward, (input) => void decodeToCoordinator(input)),
    bytes("control message to the device", downward, (input) => void decodeToDevice(input)),
    ...noise(),
    ...wireGuardTargets(),
    ...pathTargets(),
    ...lockTargets(),
    text(
      "agent socket request",
      [
        ...[`{"do":"use","exit":"home"}`, `{"do":"status"}`, `{"do":"use","exit":null}`],
        `{"do":"lock-sign","lock":"${"0".repeat(32)}","keys":["${publicKey}"]}`,
      ],
      (input) => {
        const { data } = agentRequest.safeParse(tryJson(input));
        if (data?.do === "use" && data.exit !== null) assert.match(data.exit, /^[a-z0-9-]{1,63}$/);
      },
    ),
    text(
      "agent socket answer",
      [`{"ok":true,"value":{"ipv4":"203.0.113.7"}}`, `{"ok":false,"error":{"code":"x","message":"y","advice":"z"}}`],
      (input) => {
        const { data } = agentAnswer.safeParse(tryJson(input));
        if (data?.ok === true) void agentStatus.safeParse(data.value);
        else if (data?.ok === false) assert.equal(typeof data.error.message, "string");
      },
    ),
    text("traceroute", [TRACEROUTE], (input) => {
      const hops = parseTraceroute(input);
      assert.ok(hops.length <= input.split("\n").length);
      const placed = placeHops(hops, { networks: [], exitAddresses: ["100.64.0.1" as Ip], publicAddresses: [] });
      const places: readonly Place[] = PLACES;
      for (const { ttl, where } of placed) assert.ok(ttl >= 0 && ttl <= 99 && places.includes(where));
    }),
    text("dnsmasq leases", [LEASES], (input) => {
      for (const lease of parseLeases(input)) assert.ok(encodeRelease(lease, "198.18.77.1" as Ip).length > 240);
    }),
    hostNet,
    bytes("DNS question", [DNS_QUESTION], (input) => {
      const query = readQuery(input);
      assert.ok(query === undefined || (query.name.length <= 255 && query.udpBytes >= 512));
      assert.ok(query === undefined || isReplyTo(input, emptyReply(input, RCODE.serverFailure)));
      isReplyTo(DNS_QUESTION, input);
    }),
    text("resolv.conf", ["nameserver 192.168.7.1\nnameserver ::1\nsearch lan\n"], (input) => {
      for (const ip of readResolvers(input)) assert.equal(tryIp(ip), ip);
    }),
    text(
      "wg show dump",
      [DUMP],
      (input) => void refusing("wireguard-dump", () => parseDump("exn0", input, 1_795_000_000_000)),
    ),
    text("UPID", [UPID], (input) => {
      const upid = refusing("upid-invalid", () => parseUpid(input));
      if (!(upid instanceof Failure)) assert.ok(Number.isInteger(upidParts(upid).pid));
    }),
    text("host key in a task's log", [HOST_KEY], (input) => {
      const found = hostKeyIn(input.split("\n"));
      if (found !== undefined) assert.match(found, /^SHA256:[A-Za-z0-9+/]{43}$/);
    }),
    text("a container's description", DESCRIPTIONS, (input) => {
      const found = readIdentity(input);
      const written = writeIdentity(input, identity);
      assert.deepEqual(readIdentity(written), identity);
      assert.equal(writeIdentity(written, identity), written, "writing it again changes nothing");
      if (found !== undefined) assert.deepEqual(otherLines(written), otherLines(input), "the rest stays as it was");
    }),
    yaml("agent.yaml", AGENT_YAML, (path, input) => parseFile(path, input, agentConfig)),
    yaml("coordinator.yaml", COORDINATOR_YAML, (path, input) => parseFile(path, input, coordinatorConfig)),
    yaml("config.yaml", CONFIG_YAML, (path, input) => parseFile(path, input, configSchema)),
    yaml("credentials.yaml", CREDENTIALS_YAML, parseCredentials),
    text("addresses", ["203.0.113.7", "2001:db8::7", "10.0.0.0/8", "fd00::/48", "[2001:db8::7]:51820"], (input) => {
      const [ip, cidr] = [tryIp(input), tryCidr(input)];
      if (ip !== undefined) assert.equal(tryIp(ip), ip, "the form is final");
      if (cidr !== undefined) assert.equal(tryCidr(cidr), cidr, "the form is final");
      void tryEndpoint(input);
    }),
  ];
}

const otherLines = (description: string): string[] =>
  description.split(/[\r\n\u2028\u2029]/).filter((line) => !line.startsWith("exitnode: {"));

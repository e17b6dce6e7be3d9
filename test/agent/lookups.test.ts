import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Millis } from "../../src/kit/time.js";
import { CAFE, DNSMASQ, EXIT, LookupsWorld, MAP, OWN_RESOLVER } from "./lookupsworld.js";
import { Pace } from "./pace.js";

/** Real packets: a host's look-ups between a café and an exit, and what the café's link carries of them. */

const LIMIT = { timeout: 240_000 };
const LEAK_TEST_MS: Millis = 2_000;
const pace = new Pace();
const world = new LookupsWorld();
before(() => world.raise());
after(() => world.close());

const PLAIN = "nameserver 192.168.7.1\n";
const state = (): Promise<string> => world.inHost("nft list ruleset");

test("without an exit the network's names are answered here, and the rest by the café as before", LIMIT, async () => {
  world.resolvConf(PLAIN);
  assert.equal(await world.lookUp("anything.test"), CAFE);
  const agent = world.agent();
  await agent.use(undefined);
  const heard = await world.listen();
  assert.equal(await world.lookUp("home.home.example"), "100.64.0.1");
  assert.equal(await world.lookUp("home"), "100.64.0.1", "as a single word too");
  assert.equal(await world.lookUp("nas.home.example"), "192.168.1.9");
  assert.equal(await world.lookUp("nobody.home.example"), "ENOTFOUND");
  assert.equal(await world.ask("192.168.7.1", `reverse("100.64.0.1")`), '["home.home.example"]');
  assert.deepEqual(await heard(), [], "the café has heard none of them");
  assert.equal(await world.lookUp("anything.test"), CAFE);
  await agent.stop();
  await world.clean();
});

for (const { files, text, stub } of [
  { files: "a plain resolv.conf", text: PLAIN, stub: false },
  {
    files: "a stub resolver on loopback, as resolvconf and dnsmasq set one up",
    text: "nameserver 127.0.0.1\noptions timeout:5 attempts:1\n",
    stub: true,
  },
])
  test(`while an exit is used no look-up reaches the café, with ${files}`, LIMIT, async () => {
    world.resolvConf(text);
    if (stub) await world.inHost(`${DNSMASQ} --listen-address=127.0.0.1 --cache-size=0 --server=192.168.7.1`);
    const before = await state();
    const agent = world.agent();
    assert.deepEqual(await agent.use("home"), {
      domain: "home.example",
      choice: "exit",
      servers: ["100.64.0.1"],
      way: "tunnel",
    });
    const heard = await world.listen();
    assert.equal(await world.lookUp("anything.test"), EXIT);
    assert.equal(await world.lookUp("home.home.example"), "100.64.0.1");
    assert.equal(await world.ask("192.168.7.1", `resolve4("direct.test")`), `["${EXIT}"]`, "whomever a program asks");
    assert.equal(await world.ask("[2001:db8::53]", `resolve4("six.test")`), `["${EXIT}"]`);
    assert.deepEqual(await heard(), []);
    await agent.stop("SIGKILL");
    const afterwards = await world.listen();
    assert.notEqual(await world.lookUp("dead.test"), CAFE, "nor while there is no agent");
    assert.deepEqual(await afterwards(), []);
    await world.clean();
    assert.equal(await state(), before);
    assert.equal(await world.lookUp("anything.test"), CAFE);
  });

test("the three choices ask whom they say, the way they say", LIMIT, async () => {
  world.resolvConf(PLAIN);
  const agent = world.agent({ ...MAP, names: { ...MAP.names, resolvers: [OWN_RESOLVER] } });
  const heard = await world.listen();
  assert.equal((await agent.use("home", "mine-via-exit")).choice, "mine-via-exit");
  assert.equal(await world.lookUp("anything.test"), EXIT, "the same resolver, reached through the exit");
  assert.deepEqual(await heard(), []);
  const seen = await world.listen();
  assert.equal((await agent.use("home", "mine")).way, "direct");
  assert.equal(await world.lookUp("seen.test"), CAFE);
  assert.ok((await seen()).some((line) => line.includes("seen.test")));
  await agent.stop();
  await world.clean();
});

test("a question from before the exit was used does not go on beside it", LIMIT, async () => {
  world.resolvConf(PLAIN);
  const agent = world.agent();
  // One socket, which has had an answer from the café, asks again when the exit is in use.
  const script = `
const s=require("node:dgram").createSocket("udp4"), q=Buffer.from("0001010000010000000000000561677465720474657374000001 0001".replace(" ",""),"hex");
let n=0; s.connect(53,"192.168.7.1",()=>s.send(q)); s.on("message",()=>{ if(n++===0) console.log("first"); });
process.stdin.once("data",()=>{ s.send(q); setTimeout(()=>{console.log("done");process.exit()},300); });`;
  const asker = world.spawnInHost(script);
  assert.equal(await asker.next(), "first");
  await agent.use("home");
  const heard = await world.listen();
  asker.go();
  assert.equal(await asker.next(), "done");
  assert.deepEqual(await heard(), []);
  await agent.stop();
  await world.clean();
});

test("the leak test finds every way kept while an exit is used, and says which one is not", LIMIT, async () => {
  world.resolvConf(PLAIN);
  const agent = world.agent();
  const dns = await agent.use("home");
  const heard = await world.listen();
  pace.begin();
  const { found, tookMs } = await world.leakTest(dns);
  assert.ok(tookMs < pace.allows(LEAK_TEST_MS), `${tookMs} ms`);
  assert.deepEqual(found, {
    asked: ["UDP over IPv4", "TCP over IPv4", "UDP over IPv6", "TCP over IPv6", "by way of the system"].map((how) => ({
      how,
      kept: true,
    })),
    onward: [{ server: "100.64.0.1", device: "exn0" }],
    tight: true,
  });
  assert.deepEqual(await heard(), []);

  const { found: mine } = await world.leakTest(await agent.use("home", "mine"));
  assert.equal(mine?.tight, false);
  assert.deepEqual(mine?.onward, [{ server: "192.168.7.1", device: "eth0" }]);

  const again = await agent.use("home");
  await world.inHost("nft flush chain inet exitnode_client dns_redirect");
  const { found: broken } = await world.leakTest(again);
  assert.equal(broken?.tight, false);
  assert.ok(broken?.asked.every(({ kept }) => !kept));
  await agent.stop();
  await world.clean();
});

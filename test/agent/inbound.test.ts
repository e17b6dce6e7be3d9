import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { localExec, mustRun } from "../../src/sys/exec.js";
import { removeNamespace } from "../engine/removenamespace.js";
import { LookupsWorld, MAP } from "./lookupsworld.js";

/** Real packets: what a neighbour in the café begins with a host that sends everything through an exit. */

const LIMIT = { timeout: 120_000 };
const world = new LookupsWorld("exn-ag-");
const { host, cafe, exit } = world.places;
const HOST = "192.168.7.2";
/** As a coordinator says what is let in from the tunnel. */
const RULED = { ...MAP, filter: [{ from: ["100.64.0.1/32"], to: ["100.64.0.7/32"], protocol: "tcp" }] };
/** Where a container would be. */
const BOX = "exn-ag-box";
/** Reached by the café's router, and by the exit. */
const FAR = "203.0.113.53";

/** Answers TCP and UDP with what it hears; UDP from the address that it was asked at, as a server on several does. */
const echo = (
  address: string,
): string => `require("node:net").createServer((c)=>c.on("error",()=>0).pipe(c)).listen(2200,()=>{
const s=require("node:dgram").createSocket("udp4");s.on("message",(m,{address,port})=>s.send(m,port,address));s.bind(2200,"${address}",()=>console.log("ready"));});
process.stdin.on("end",()=>process.exit()).resume();`;
/** How long what is to answer may take on a busy machine, and how long what is not is listened to. */
const [PATIENCE_MS, SILENCE_MS] = [30_000, 1_000];
type Asked = readonly [over: "tcp" | "udp", to: string, from: string, port?: number];
/** One word to an echo server, from an address; "silent" when nothing comes back in time. */
const ask = (withinMs: number, ...[over, to, from, port = 2200]: Asked): string =>
  `${
    over === "tcp"
      ? `const c=require("node:net").connect({host:"${to}",port:${port},localAddress:"${from}"},()=>c.write("word"));
c.on("data",(d)=>{console.log(String(d));process.exit()}).on("error",(e)=>{console.log(e.code);process.exit()});`
      : `const s=require("node:dgram").createSocket("udp4");s.on("message",(m)=>{console.log(String(m));process.exit()});
s.bind(0,"${from}",()=>s.send("word",${port},"${to}"));`
  }setTimeout(()=>{console.log("silent");process.exit()},${withinMs});`;
const heard = async (place: string, script: string): Promise<string> =>
  (await localExec.run(["ip", "netns", "exec", place, process.execPath, "-e", script])).stdout.trim();
const answer = (place: string, ...asked: Asked): Promise<string> => heard(place, ask(PATIENCE_MS, ...asked));
const noAnswer = (place: string, ...asked: Asked): Promise<string> => heard(place, ask(SILENCE_MS, ...asked));
const pings = async (place: string, to: string, from: string): Promise<boolean> =>
  (await localExec.run(["ip", "netns", "exec", place, "ping", "-n", "-c1", "-W30", "-I", from, to])).exitCode === 0;

before(async () => {
  await world.raise();
  world.resolvConf("nameserver 192.168.7.1\n");
  await world.must(host, "tee /proc/sys/net/ipv4/conf/all/rp_filter", "1\n");
  await world.must(cafe, "ip address add fd00:7::1/64 dev lan nodad");
  await world.must(host, "ip address add fd00:7::2/64 dev eth0 nodad");
  assert.equal(await world.spawnInHost(echo(HOST)).next(), "ready");
});
after(async () => {
  removeNamespace(BOX);
  await world.close();
});

test(
  "a neighbour's TCP, UDP and ping are answered while an exit is used, and a stranger's TCP and ping",
  LIMIT,
  async () => {
    const untouched = await world.inHost("nft list ruleset");
    const agent = world.agent(RULED);
    await agent.use("home");
    assert.equal(await answer(cafe, "tcp", "fd00:7::2", "fd00:7::1"), "word", "over IPv6");
    assert.equal(await pings(cafe, "fd00:7::2", "fd00:7::1"), true);
    for (const over of ["tcp", "udp"] as const)
      assert.equal(await answer(cafe, over, HOST, "192.168.7.1"), "word", over);
    assert.equal(await pings(cafe, HOST, "192.168.7.1"), true);
    assert.equal(await answer(cafe, "tcp", HOST, FAR), "word", "by a forwarded port");
    assert.equal(await pings(cafe, HOST, FAR), true);
    assert.equal(await noAnswer(cafe, "udp", HOST, FAR), "silent", "who began it cannot be told");
    assert.equal(await answer(exit, "tcp", "100.64.0.7", "100.64.0.1"), "word", "and in the tunnel as before");
    await agent.stop();
    await world.clean();
    assert.equal(await world.inHost("nft list ruleset"), untouched);
  },
);

test(
  "a container's port on this machine is answered to neighbours, and what the container begins goes by the exit",
  LIMIT,
  async () => {
    removeNamespace(BOX);
    await mustRun(localExec, ["ip", "netns", "add", BOX]);
    await world.must(host, `ip link add box type bridge`);
    await world.must(host, `ip link add port master box type veth peer name eth0 netns ${BOX}`);
    await world.must(host, "ip link set port up");
    for (const [place, link, address] of [
      [host, "box", "172.30.0.1/24"],
      [BOX, "eth0", "172.30.0.2/24"],
    ] as const) {
      await world.must(place, `ip address add ${address} dev ${link}`);
      await world.must(place, `ip link set ${link} up`);
    }
    await world.must(BOX, "ip route add default via 172.30.0.1");
    await world.must(host, "tee /proc/sys/net/ipv4/ip_forward", "1\n");
    await world.must(host, "nft -f -", PUBLISHED);
    const box = world.spawnIn(BOX, echo("172.30.0.2"));
    assert.equal(await box.next(), "ready");
    const agent = world.agent(RULED);
    await agent.use("home");
    assert.equal(await answer(cafe, "tcp", HOST, "192.168.7.1", 8080), "word");
    assert.equal(await pings(host, "172.30.0.2", "172.30.0.1"), true, "from here as well");
    assert.equal(await pings(BOX, FAR, "172.30.0.2"), true);
    const counted = await world.inHost("nft list table ip published");
    const packets = [...counted.matchAll(/packets (\d+)/g)].map(([, count]) => count);
    assert.deepEqual(packets, ["1", "0"], "into the tunnel, not beside it");
    await agent.stop();
    await world.clean();
    await world.inHost("nft delete table ip published");
    await box.end();
  },
);

/** As Docker publishes a port; and counts where pings go. */
const PUBLISHED = `table ip published {
  chain in { type nat hook prerouting priority dstnat; iifname "eth0" tcp dport 8080 dnat to 172.30.0.2:2200; }
  chain post { type nat hook postrouting priority srcnat; ip saddr 172.30.0.0/24 oifname != "box" masquerade; }
  chain whither { oifname "exn0" counter; oifname "eth0" counter; }
  chain seen { type filter hook forward priority 0; iifname "box" icmp type echo-request jump whither; }
}
`;

/** Says "first" after an answer from FAR, and sends again when it is told to; "second" or "silent". */
const LASTING: Record<string, string> = {
  TCP: `const c=require("node:net").connect(2200,"${FAR}",()=>c.write("one"));let n=0;
c.on("data",()=>console.log(n++===0?"first":"second")).on("error",()=>0);`,
  UDP: `const s=require("node:dgram").createSocket("udp4");let n=0;const c={write:(m)=>s.send(m,()=>0)};
s.on("message",()=>console.log(n++===0?"first":"second")).on("error",()=>0);s.connect(2200,"${FAR}",()=>c.write("one"));`,
};
for (const [over, script] of Object.entries(LASTING))
  test(`a ${over} conversation that this machine began before does not go on beside the exit`, LIMIT, async () => {
    const far = world.spawnIn(cafe, echo(FAR));
    assert.equal(await far.next(), "ready");
    const own = world.spawnInHost(
      `${script}process.stdin.once("data",()=>{c.write("two");setTimeout(()=>{console.log("silent");process.exit()},1500)});`,
    );
    assert.equal(await own.next(), "first");
    const agent = world.agent(RULED);
    await agent.use("home");
    own.go();
    assert.equal(await own.next(), "silent");
    await agent.stop();
    await world.clean();
    await far.end();
  });

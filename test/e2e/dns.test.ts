import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { KeeperMachine } from "../agent/keepermachine.js";
import { eventually, object, program, type Ran, run, World } from "./world.js";

/** Names on the real path: a laptop in the café, an exit node at home, and what the café's router hears of look-ups. */

const world = new World();
const HOME_NAS = "198.18.77.20";

/** By DNS, multicast DNS, LLMNR and NetBIOS. */
const QUERIES = "dst port 53 or dst port 5353 or dst port 5355 or dst port 137";

/** The look-ups that leave the laptop while `work` is done, by a capture on the café's side of its link. */
async function lookupsDuring(work: () => Promise<void>): Promise<string[]> {
  const argv = ["netns", "exec", "exn-cafe", "tcpdump", "-i", "lan", "-n", "-l", "--immediate-mode", QUERIES];
  const capture = spawn("ip", argv, { stdio: ["ignore", "pipe", "pipe"] });
  const lines: string[] = [];
  createInterface({ input: capture.stdout }).on("line", (line) => lines.push(line));
  for await (const line of createInterface({ input: capture.stderr })) if (/listening on/.test(line)) break;
  try {
    await work();
    // A question of the agent's user goes by the café whatever is in use: all that was sent before it is captured then.
    const mark = "setpriv --reuid=exitnode --regid=exitnode --clear-groups getent ahostsv4 mark.lab";
    await world.at("laptop", "sh", "-c", `${mark}; true`);
    await eventually("the mark is captured", async () => lines.some((line) => line.includes("mark.lab")), 60_000);
  } finally {
    capture.kill();
  }
  return lines.filter((line) => !line.includes("mark.lab"));
}

const addressOf = async (name: string): Promise<string> =>
  (await world.at("laptop", "getent", "ahostsv4", name)).stdout.split(" ")[0] ?? "";
/** What runs there and whose command line matches. */
async function killOnLaptop(pattern: string): Promise<void> {
  const each = `grep -qaE '${pattern}' /proc/$pid/cmdline && kill -9 $pid && echo $pid`;
  const { stdout } = await run(["sh", "-c", `for pid in $(ip netns pids exn-laptop); do ${each}; done; true`]);
  assert.notEqual(stdout, "", "something was killed");
}
const resolvConf = async (): Promise<string> => (await world.at("laptop", "cat", "/etc/resolv.conf")).stdout;
const ruleset = async (): Promise<string> => (await world.at("laptop", "nft", "list", "ruleset")).stdout;
let untouched = { files: "", rules: "" };

before(async () => {
  await world.raiseLab();
  await world.json("appliance", "build");
  await world.json("create", "--host", "lab", "--name", "home");
  untouched = { files: await resolvConf(), rules: await ruleset() };
  await world.laptopUp();
});
after(() => world.close());

test("devices and extra names are answered without the café hearing of them, the rest as before", async () => {
  await world.json("names", "set", "--domain", "home.example");
  await world.json("names", "add", "nas", HOME_NAS);
  await eventually("the new domain has come", async () => (await addressOf("nas.home.example")) === HOME_NAS, 30_000);
  const home = object(JSON.parse((await world.laptop("status", "--json")).stdout)).peers;
  assert.ok(Array.isArray(home));
  const heard = await lookupsDuring(async () => {
    assert.equal(await addressOf("home.home.example"), object(home[0]).addresses?.toString().split(",")[0]);
    assert.equal(await addressOf("nobody.home.example"), "");
  });
  assert.deepEqual(heard, []);
  assert.notEqual(await addressOf("vps.lab"), "");
});

test("while an exit is used the café hears no look-up, whichever way it is asked, and trace says so", async () => {
  assert.equal((await world.laptop("use", "home")).code, 0);
  const heard = await lookupsDuring(async () => {
    assert.equal(await addressOf("nas.home"), HOME_NAS, "only the home's resolver knows this name");
    assert.equal(await addressOf("nas.home.example"), HOME_NAS);
  });
  assert.deepEqual(heard, []);
  const trace = object(JSON.parse((await world.laptop("trace", "--ipv4", "--json")).stdout));
  assert.equal(object(trace.lookups).tight, true);
});

test("the choice to ask directly is said to be seen, and is", async () => {
  const used = await world.laptop("use", "home", "--dns", "mine");
  assert.match(used.stdout, /this network sees what is\s+looked up/);
  const heard = await lookupsDuring(async () => void (await addressOf("vps.lab")));
  assert.ok(heard.some((line) => line.includes("vps.lab")));
  assert.equal((await world.laptop("use", "home")).code, 0);
});

test("killed with its supervisor watching, the agent's look-ups go back to the café's way, and down leaves no trace", async () => {
  await killOnLaptop("agent\\.js");
  const again = async (): Promise<boolean> => /home \(active/.test((await world.laptop("status")).stdout);
  await eventually("the agent is back", again, 60_000);
  assert.equal((await world.laptop("down")).code, 0);
  assert.deepEqual({ files: await resolvConf(), rules: await ruleset() }, untouched);
  assert.notEqual(await addressOf("vps.lab"), "");
});

test("where systemd-resolved looks after the resolvers, all of that is so too: up, use, kill -9 of all that is ours, and down", async () => {
  const machine = await KeeperMachine.start("systemd-resolved", "exn-laptop", "eth0", "198.18.88.1");
  const own = "/var/lib/exitnode-lab/places/laptop";
  const env = { EXITNODE_ETC: `${own}/etc`, EXITNODE_VAR: `${own}/var`, EXITNODE_RUN: `${own}/run` };
  const laptop = async (...argv: string[]): Promise<Ran> => {
    const ran = await run([...machine.enter, process.execPath, program, ...argv], { env });
    assert.equal(ran.code, 0, `${argv.join(" ")}: ${ran.stderr}`);
    return ran;
  };
  const state = async (): Promise<string[]> => [await machine.state(), await ruleset()];
  try {
    const before = await state();
    assert.notEqual(await machine.lookUp("vps.lab"), "");
    await laptop("up");
    await laptop("use", "home");
    const heard = await lookupsDuring(async () => {
      assert.equal(await machine.lookUp("nas.home"), HOME_NAS);
      assert.equal(await machine.lookUp("nas.home.example"), HOME_NAS);
      await machine.lookUp("singleword");
    });
    assert.deepEqual(heard, []);
    await killOnLaptop("exitnode\\.js|agent\\.js");
    const afterwards = await lookupsDuring(async () => void (await machine.lookUp("vps.lab")));
    assert.deepEqual(afterwards, [], "nor while nothing of ours runs");
    await laptop("down");
    assert.deepEqual(await state(), before);
    assert.notEqual(await machine.lookUp("web.lab"), "");
  } finally {
    await machine.stop();
  }
});

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { eventually, object, run, World } from "./world.js";

/** Several Proxmox hosts in the lab: beside each other, and as one cluster of an older release. Real containers. */
const world = new World();
const SECOND = "https://198.18.77.11:8006";

type Listed = { name: string; host: string; pveNode: string; vmid: number; state: string };
const listed = async (): Promise<Listed[]> => (await world.json("list")).exitNodes as Listed[];
/** What there is of the lab: its namespaces but for others', its folder, the machine's interface. */
async function traces(): Promise<string[]> {
  const { stdout } = await run(["ip", "netns", "list"]);
  const own = stdout.split("\n").filter((line) => /^exn-(laptop|home|pve[1-4]|vps)\b/.test(line));
  const link = (await run(["ip", "link", "show", "exn-mgmt"])).code === 0 ? ["exn-mgmt"] : [];
  return [...own, ...link, ...["/run/exitnode-lab", "/etc/netns/exn-pve2"].filter((path) => existsSync(path))];
}

after(() => world.close());

describe("two hosts beside each other", () => {
  before(async () => {
    await world.json("appliance", "build");
    await world.raiseLab("--hosts", "2");
  });

  test("both answer this machine with certificates of their own, and the number of hosts is settled", async () => {
    const { hosts } = (await world.json("host", "list")) as { hosts: { name: string; url: string }[] };
    assert.deepEqual(
      hosts.map(({ name }) => name),
      ["lab", "lab-token", "lab2", "lab2-token"],
    );
    assert.equal(hosts.find(({ name }) => name === "lab2")?.url, SECOND);
    const refused = await world.fails(["lab", "up", "--hosts", "3"]);
    assert.equal(refused.code, "lab-hosts-settled");
    assert.equal((await world.json("lab", "up")).changed, false);
  });

  test("create makes one exit node on each, and a host that fails hides neither; the exit code is 1", async () => {
    const ran = await world.run(["create", "--host", "lab", "--host", "nowhere", "--host", "lab2", "--json"]);
    assert.equal(ran.code, 1, ran.stderr);
    const { exitNodes, failed } = object(JSON.parse(ran.stdout)) as {
      exitNodes: { name: string; error?: unknown }[];
    } & {
      failed: number;
    };
    assert.deepEqual(
      exitNodes.map(({ name, error }) => [name, error === undefined]),
      [
        ["home-lab", true],
        ["home-nowhere", false],
        ["home-lab2", true],
      ],
    );
    assert.equal(failed, 1);
    assert.deepEqual(
      (await listed()).map(({ name, pveNode, state }) => [name, pveNode, state]),
      [
        ["home-lab", "pve1", "running"],
        ["home-lab2", "pve2", "running"],
      ],
    );
  });

  test("both are in one network, and plan --all finds nothing to do", async () => {
    const online = async (): Promise<boolean> => {
      const { exitNodes } = (await world.json("status")) as { exitNodes: { online: boolean }[] };
      return exitNodes.length === 2 && exitNodes.every((one) => one.online);
    };
    await eventually("both are online", online, 60_000);
    const plan = await world.run(["plan", "--all"]);
    assert.equal(plan.code, 0, plan.stdout);
  });

  test("a host whose API is gone is a row with its reason; the other's exit node is there", async () => {
    const pid = Number((readFileSync("/run/exitnode-lab/pve2.process", "utf8").split(" ")[0] ?? "").trim());
    process.kill(pid, "SIGKILL");
    const ran = await world.run(["list"]);
    assert.equal(ran.code, 1);
    assert.match(ran.stdout, /home-lab +lab, lab-token +\d+ +pve1 +running/);
    assert.match(ran.stdout, /^- +lab2 .* not asked /m);
    const again = await world.json("lab", "up");
    assert.deepEqual(again.started, ["pve2"]);
    assert.equal((await listed()).length, 2);
  });

  test("lab down takes both hosts' containers, and leaves nothing", async () => {
    await world.json("lab", "down");
    assert.deepEqual(await traces(), []);
    assert.deepEqual((await world.json("host", "list")).hosts, []);
  });
});

describe("a cluster of two, of release 8.4", () => {
  before(() => world.raiseLab("--hosts", "2", "--cluster", "--pve-version", "8.4"));

  test("a container of one node is seen through the other, and their numbers differ", async () => {
    const made = await world.json("create", "--host", "lab", "--host", "lab2");
    const { exitNodes } = made as { exitNodes: { exitNode: { vmid: number; pveNode: string } }[] };
    const [first, second] = exitNodes.map(({ exitNode }) => exitNode);
    assert.deepEqual([first?.pveNode, second?.pveNode], ["pve1", "pve2"]);
    assert.notEqual(first?.vmid, second?.vmid);
    for (const { host } of await listed()) assert.equal(host, "lab, lab-token, lab2, lab2-token");
    const { containers } = (await world.json("lab", "status")) as { containers: { host: string; name: string }[] };
    assert.deepEqual(
      containers.map(({ host, name }) => [host, name]),
      [
        ["pve1", "home-lab"],
        ["pve2", "home-lab2"],
      ],
    );
  });

  test("two exit nodes never come to one machine", async () => {
    const ran = await world.run(["create", "--host", "lab", "--host", "lab-token", "--json"]);
    assert.equal(ran.code, 1);
    assert.match(ran.stdout, /"hosts-same-machine"/);
    assert.equal((await listed()).length, 2);
  });

  test("an upgrade of the hosts leaves their containers running", async () => {
    const before = (await world.inside((await listed())[0]?.vmid ?? 0, "cat", "/proc/1/stat")).split(" ")[21];
    assert.equal((await world.json("lab", "up", "--pve-version", "9.2")).changed, true);
    assert.equal((await world.inside((await listed())[0]?.vmid ?? 0, "cat", "/proc/1/stat")).split(" ")[21], before);
  });
});

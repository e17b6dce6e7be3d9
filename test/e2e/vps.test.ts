import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { object, World } from "./world.js";

/**
 * A rented server as the place of the control plane: first a coordinator on it, with an exit node at home that
 * registers there; then a relay on it, for the network of a coordinator at home. Real machines, in order.
 */
const world = new World();
const VPS = "192.0.2.22";
const TARGET = ["--ssh", `root@${VPS}`] as const;
const KNOWN_HOSTS = "/var/lib/exitnode-lab/vps/known_hosts";
let hostKey = "";

const onVps = async (...argv: readonly string[]): Promise<string> => {
  const ran = await world.run(["lab", "exec", "vps", "--", ...argv]);
  return ran.stdout.trim();
};
const stun = (place: string, address: string) => world.at(place, process.execPath, "-e", STUN_PROGRAM, address);
/** A binding request (RFC 8489 §5), once a second, and whether an answer comes within 20. */
const STUN_PROGRAM = `
const socket = require("node:dgram").createSocket("udp4");
const request = Buffer.concat([Buffer.from("000100002112a442", "hex"), require("node:crypto").randomBytes(12)]);
socket.on("message", (answer) => process.exit(answer.subarray(8).compare(request, 8, 20, 0, 12) === 0 ? 0 : 2));
const ask = () => socket.send(request, 3478, process.argv[1]);
ask();
setInterval(ask, 1000);
setTimeout(() => process.exit(1), 20000);
`;

before(async () => {
  await world.raiseLab("--vps", "yes");
  await world.json("appliance", "build");
});
after(() => world.close());

describe("coordinator up", () => {
  test("a host key that nobody confirmed is told and not trusted; nothing was changed there", async () => {
    const { code, advice } = await world.fails(["coordinator", "up", ...TARGET]);
    assert.equal(code, "host-key-unconfirmed");
    hostKey = /--host-key (SHA256:\S{43})/.exec(advice)?.[1] ?? "";
    const listed = await world.at("vps", "ssh-keygen", "-lf", KNOWN_HOSTS);
    assert.ok(listed.stdout.includes(hostKey) && hostKey !== "", listed.stdout);
    assert.equal(await onVps("ls", "/opt/exitnode/coordinator.js"), "");
    const wrong = await world.fails(["coordinator", "up", ...TARGET, "--host-key", `SHA256:${"A".repeat(43)}`]);
    assert.equal(wrong.code, "host-key-mismatch");
  });

  test("makes a coordinator that this machine administers, and again changes nothing", async () => {
    const made = await world.json("coordinator", "up", ...TARGET, "--host-key", hostKey);
    assert.equal(made.changed, true);
    assert.deepEqual(made.unreached, []);
    const status = await world.json("coordinator", "status");
    assert.deepEqual(status.urls, [`https://${VPS}`]);
    assert.equal(status.publicKey, made.publicKey);
    const pid = await onVps("systemctl", "show", "-P", "MainPID", "exitnode-coordinator");
    const again = await world.json("coordinator", "up", ...TARGET);
    assert.deepEqual([again.changed, again.changes], [false, []]);
    assert.equal(
      await onVps("systemctl", "show", "-P", "MainPID", "exitnode-coordinator"),
      pid,
      "it was not restarted",
    );
  });

  test("a file that somebody changed there is put back, and the coordinator keeps its keys", async () => {
    const { publicKey } = await world.json("coordinator", "status");
    await onVps("sh", "-c", "echo '# mine' >>/etc/systemd/system/exitnode-coordinator.service");
    await onVps("systemctl", "stop", "exitnode-coordinator");
    const { changes } = await world.json("coordinator", "up", ...TARGET);
    assert.deepEqual(changes, [
      "wrote /etc/systemd/system/exitnode-coordinator.service",
      "started exitnode-coordinator.service",
    ]);
    assert.equal((await world.json("coordinator", "status")).publicKey, publicKey);
  });

  test("STUN beside it answers a café, and a relay of its own is not put on its port", async () => {
    assert.equal((await stun("laptop", VPS)).code, 0);
    const { code, message } = await world.fails(["relay", "up", ...TARGET]);
    assert.equal(code, "port-taken");
    assert.match(message, /exitnode-coordinator/);
  });

  test("an exit node at home registers there, and holds no coordinator of its own", async () => {
    const made = await world.json("create", "--host", "lab", "--name", "home");
    const { here, urls } = object(made.coordinator);
    assert.deepEqual([here, urls], [false, [`https://${VPS}`]]);
    const vmid = Number(object(made.exitNode).vmid);
    assert.equal(
      (await world.tryInside(vmid, "systemctl", "is-active", "exitnode-coordinator")).stdout.trim(),
      "inactive",
    );
    const { devices } = await world.json("device", "list");
    assert.deepEqual(
      (devices as { name: string; online: boolean }[]).map(({ name, online }) => [name, online]),
      [["home", true]],
    );
    await world.laptopUp();
    assert.equal((await world.laptop("use", "home")).code, 0);
    assert.equal(
      (await world.at("laptop", "curl", "-4", "-s", "-m", "30", "http://whoami.lab/")).stdout.trim(),
      "203.0.113.77",
    );
    assert.equal((await world.laptop("down", "--forget")).code, 0);
  });
});

describe("relay up", () => {
  before(async () => {
    await world.json("destroy", "home", "--host", "lab", "--yes");
    await world.json("coordinator", "forget", "--yes");
    await onVps("systemctl", "disable", "--now", "exitnode-coordinator");
    await world.json("create", "--host", "lab", "--name", "home");
  });

  test("the coordinator in the container has a relay and STUN beside it, which the LAN reaches", async () => {
    const { relays } = await world.json("relay", "list");
    assert.deepEqual(
      (relays as { name: string; kind: string }[]).map(({ name, kind }) => [name, kind]),
      [["coordinator", "own"]],
    );
    assert.equal((await stun("nas", "198.18.77.50")).code, 0);
  });

  test("makes a relay, enters it into the map, and again changes nothing", async () => {
    const made = await world.json("relay", "up", ...TARGET, "--name", "vps");
    assert.deepEqual([made.changed, made.reached, made.url], [true, true, `https://${VPS}`]);
    const again = await world.json("relay", "up", ...TARGET, "--name", "vps");
    assert.deepEqual([again.changed, again.changes], [false, []]);
    const { relays } = await world.json("relay", "list");
    assert.deepEqual(
      (relays as { name: string; kind: string }[]).map(({ name, kind }) => [name, kind]),
      [
        ["coordinator", "own"],
        ["vps", "added"],
      ],
    );
    assert.equal((await stun("laptop", VPS)).code, 0);
  });

  test("the relay's unit holds no more rights than it needs, and it is no user of the machine", async () => {
    const pid = await onVps("systemctl", "show", "-P", "MainPID", "exitnode-relay");
    const status = await onVps("cat", `/proc/${pid}/status`);
    assert.match(status, /^CapEff:\t0000000000000400$/m);
    assert.doesNotMatch(status, /^Uid:\t0\t/m);
  });

  test("a revocation names both relays as told", async () => {
    await world.laptopUp("thief");
    const { told } = await world.json("device", "revoke", "thief");
    const { asked, confirmed, silent } = object(object(told).relays);
    assert.deepEqual([asked, confirmed, silent], [2, 2, []]);
    await world.laptop("down", "--forget");
  });

  test("a relay that is removed is out of the map, and another coordinator is refused on a configured network", async () => {
    await world.json("relay", "remove", "vps");
    assert.equal(((await world.json("relay", "list")).relays as unknown[]).length, 1);
    assert.equal((await world.fails(["coordinator", "up", ...TARGET])).code, "coordinator-set");
    assert.ok(readFileSync(`${world.env.EXITNODE_CONFIG}/config.yaml`, "utf8").includes(hostKey));
  });
});

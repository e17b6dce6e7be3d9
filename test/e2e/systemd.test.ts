import assert from "node:assert/strict";
import { dirname } from "node:path";
import { after, before, test } from "node:test";
import { eventually, object, program, run, World } from "./world.js";

/** A second exit node with the coordinator that is there, and its container as a person's machine with systemd. */

const world = new World();
let second = 0;
const ATTACH = ["nsenter", "--net=/run/netns/exn-pve1", "lxc-attach", "-P", "/var/lib/exitnode-lab/pve/lxc", "-n"];
const desk = (...argv: string[]) =>
  world.tryInside(second, "env", "EXITNODE_WHOAMI=http://whoami.lab/", "node", "/opt/desk/dist/exitnode.js", ...argv);

before(async () => {
  await world.raiseLab();
  await world.json("appliance", "build");
  await world.json("create", "--host", "lab", "--name", "home");
});
after(() => world.close());

test("a second exit node registers with the coordinator of the first", async () => {
  const made = object((await world.json("create", "--host", "lab", "--name", "second")).exitNode);
  second = Number(made.vmid);
  const { devices } = await world.json("device", "list");
  assert.ok(Array.isArray(devices));
  assert.deepEqual(
    devices.map(object).map(({ name, online }) => [name, online]),
    [
      ["home", true],
      ["second", true],
    ],
  );
});

test("where systemd runs, up makes a unit that restores the routing when the agent is killed, and down removes it", async () => {
  const root = dirname(dirname(program));
  const copy = `tar -C '${root}' -c dist templates package.json | ${ATTACH.join(" ")} ${second} --clear-env -- sh -c 'systemctl -q disable --now exitnode-agent; rm -rf /etc/exitnode /var/lib/exitnode /run/exitnode; mkdir -p /opt/desk; tar -C /opt/desk -x'`;
  const copied = await run(["sh", "-c", copy]);
  assert.equal(copied.code, 0, copied.stderr);
  const before = await world.inside(second, "ip", "rule");
  const { joinKey } = await world.json("key", "create", "--role", "device");
  const up = await desk("up", "--join", String(joinKey), "--name", "desk");
  assert.equal(up.code, 0, up.stderr);
  const used = await desk("use", "home");
  assert.equal(used.code, 0, used.stderr);
  const through = await world.inside(second, "ip", "rule");
  assert.notEqual(through, before);

  await world.inside(second, "systemctl", "kill", "-s", "KILL", "exitnode-device");
  await eventually(
    "the routing is restored",
    async () => (await world.inside(second, "ip", "rule")) === before,
    30_000,
  );
  const active = async (): Promise<boolean> => /home \(active/.test((await desk("status")).stdout);
  await eventually("the agent is back, and uses the exit again", active, 60_000);

  assert.equal((await desk("down")).code, 0);
  assert.equal(await world.inside(second, "ip", "rule"), before);
  assert.equal((await world.tryInside(second, "systemctl", "cat", "exitnode-device")).code, 1);
});

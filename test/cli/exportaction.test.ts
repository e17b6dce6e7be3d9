import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { writeConfig, writeCredentials } from "../../src/cli/config.js";
import { exportExitNode } from "../../src/cli/exportaction.js";
import { writeIdentity } from "../../src/provision/identity.js";
import { ROLES } from "../../src/pve/permissions.js";
import { localFiles } from "../../src/sys/files.js";
import { type FakeHost, startFakeHost } from "../pve/fakehost.js";
import { blocksOf, parseHcl } from "./hcl.js";
import { type Home, makeHome, smallPve } from "./hostworld.js";

/** `export` from the config to the printed text, against a host that only answers questions. */
const SECRET = "11111111-2222-3333-4444-555555555555";
const TOKEN = "exitnode@pve!cli";
const RIGHTS = {
  "/vms": ROLES.ExitnodeGuests,
  "/storage/local": ROLES.ExitnodeStorage,
  "/storage/tank": ROLES.ExitnodeStorage,
  "/sdn/zones/localnetwork/vmbr0": ROLES.ExitnodeNetwork,
  "/nodes/pve1": ROLES.ExitnodeNode,
};

const open: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of open.splice(0)) await close();
});

async function start(data?: Record<string, unknown>): Promise<{ home: Home; host: FakeHost }> {
  const host = await startFakeHost(smallPve(`PVEAPIToken=${TOKEN}=${SECRET}`, RIGHTS, data));
  const home = makeHome();
  open.push(host.close, home.remove);
  const { url, fingerprint } = host;
  const entry = { url, fingerprint, login: TOKEN, pveNode: "pve1", defaults: { memory: 768 } };
  await writeConfig(localFiles, home.folder, { hosts: { pve1: entry } });
  await writeCredentials(localFiles, home.folder, { hosts: { pve1: { secret: SECRET } } });
  return { home, host };
}

for (const format of ["terraform", "ansible", "pct"])
  test(`${format}: a wish is printed with the host's defaults, asking only, and with no secret in it`, async () => {
    const { home, host } = await start();
    const { text, value } = await exportExitNode(home.call(["home"], { format, disk: "6" }));
    assert.deepEqual([...new Set(host.seen.map(({ method }) => method))], ["GET"]);
    assert.ok(text.includes("768") && text.includes(":vztmpl/debian-13-exitnode_"), text);
    assert.ok(!text.includes(SECRET));
    const key = readFileSync(join(home.folder, "ssh_ed25519"), "utf8").split("\n")[1] ?? "";
    assert.ok(key.length > 20 && !text.includes(key), "our public key is in it, and not the private half");
    assert.ok(text.includes(readFileSync(join(home.folder, "ssh_ed25519.pub"), "utf8").trim()));
    assert.deepEqual(value, {
      name: "home",
      host: "pve1",
      format,
      exists: false,
      next: "exitnode create --host pve1 --name home",
      text,
    });
  });

test("an exit node that is there is printed as it is, whatever the defaults say now", async () => {
  const identity = { id: "5f1c", name: "home", given: { memory: 512 } };
  const config = {
    hostname: "home",
    cores: 1,
    memory: "512",
    swap: 0,
    unprivileged: 1,
    onboot: 1,
    tags: "exitnode",
    digest: "0",
    rootfs: "tank:subvol-105-disk-0,size=4G",
    net0: "name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth",
    features: "nesting=1",
    description: writeIdentity("", identity),
  };
  const { home } = await start({
    "/cluster/resources": [
      { id: "lxc/105", type: "lxc", vmid: 105, node: "pve1", name: "home", status: "running", tags: "exitnode" },
    ],
    "/nodes/pve1/lxc/105/config": config,
    "/nodes/pve1/lxc/105/status/current": { status: "running" },
  });
  const { text, value } = await exportExitNode(home.call(["home"], { format: "terraform" }));
  assert.equal((value as { exists: boolean }).exists, true);
  const [resource] = blocksOf(parseHcl(text), "resource");
  assert.ok(resource !== undefined);
  assert.equal(blocksOf(resource, "memory")[0]?.attributes.get("dedicated"), 512);
  assert.equal(blocksOf(resource, "disk")[0]?.attributes.get("datastore_id"), "tank");
  assert.deepEqual(Object.fromEntries(blocksOf(resource, "network_interface")[0]?.attributes ?? []), {
    name: "eth0",
    bridge: "vmbr0",
  });
});

test("without a format, and with one that does not exist, the three are named", async () => {
  const { home } = await start();
  for (const format of [undefined, "chef"])
    await assert.rejects(exportExitNode(home.call(["home"], { format })), /one of terraform, ansible, pct/);
});

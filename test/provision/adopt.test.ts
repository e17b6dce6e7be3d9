import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Failure } from "../../src/kit/failure.js";
import { type Adoption, adopt, findAdoptable } from "../../src/provision/adopt.js";
import { plan } from "../../src/provision/converge.js";
import { readIdentity } from "../../src/provision/identity.js";
import type { CreateParams } from "../../src/pve/guests.js";
import { ModelProxmox } from "./modelhost.js";
import { ModelMachine, modelParts, REQUEST } from "./modelparts.js";

const WANTED: Adoption = { vmid: 120, name: undefined, hostKey: undefined, privileged: false };

/** What the container says of itself; the rest is the model's. */
type Said = { readonly system?: string; readonly lacks?: readonly string[]; readonly node?: string };

async function world(given: Partial<CreateParams> = {}, said: Said = {}) {
  const proxmox = new ModelProxmox();
  const host = proxmox.client();
  await host.create("pve1", {
    ...{ vmid: 120, ostemplate: "local:vztmpl/debian-13.tar.zst", hostname: "wireguard", unprivileged: true },
    ...{ cores: 2, memory: 1024, tags: "community-script", net0: "name=eth0,bridge=vmbr0,ip=dhcp" },
    ...{ description: "made by hand", ...given },
  });
  await host.start("pve1", 120);
  const machine = new ModelMachine();
  const parts = await modelParts(proxmox, machine);
  const container = proxmox.containers.get(120);
  if (said.system !== undefined && container !== undefined) container.system = said.system;
  if (said.node !== undefined && container !== undefined) container.node = said.node;
  for (const name of said.lacks ?? []) container?.lacking.add(name);
  return { proxmox, machine, parts };
}

const refusal = (code: string, message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure, String(error));
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  assert.ok(error.advice, "it has advice");
  return true;
};

describe("adopt", () => {
  test("a container made by hand becomes an exit node, keeps its size, its notes and its tags, and needs no more", async () => {
    const { proxmox, parts } = await world({}, { lacks: ["nftables", "wireguard-tools"] });
    const found = await findAdoptable(parts, REQUEST, WANTED);
    assert.deepEqual(found.words.slice(0, 2), ["read the package lists", "install nftables, wireguard-tools"]);
    assert.equal(proxmox.containers.get(120)?.options.tags, "community-script", "nothing was changed yet");
    const done = await adopt(parts, REQUEST, found);
    const container = proxmox.containers.get(120);
    assert.ok(container?.joined && done.changed);
    assert.equal(container.lacking.size, 0);
    const { tags, cores, memory, description = "" } = container.options;
    assert.deepEqual([tags, cores, memory], ["community-script;exitnode", "2", "1024"]);
    assert.match(description, /^made by hand\n/);
    assert.equal(readIdentity(description)?.hostKey, container.hostKey);
    const left = await plan(parts, REQUEST, { name: "wireguard", given: {} });
    assert.deepEqual([left.steps, left.differences], [[], []]);
  });

  for (const [title, given, said, code, message] of [
    ["a privileged one", { unprivileged: false }, {}, "adopt-refused", /privileged: root inside is root of the host/],
    ["one that Terraform looks after", { tags: "terraform" }, {}, "adopt-refused", /"terraform": another tool/],
    ["Debian 11", {}, { system: "debian 11" }, "adopt-refused", /is debian 11, expected Debian 12 or 13/],
    ["Alpine", {}, { system: "alpine 3.20" }, "adopt-refused", /is alpine 3\.20, expected/],
    [
      "Debian 12 without Node.js",
      {},
      { system: "debian 12", lacks: ["nodejs"] },
      "template-unfit",
      /is debian 12, exp/,
    ],
    ["an old Node.js", {}, { system: "debian 12", node: "18.19.0" }, "node-too-old", /18\.19\.0, expected 20\.19/],
  ] as const)
    test(`${title} is refused, and nothing is changed`, async () => {
      const { proxmox, parts } = await world(given, said);
      const before = JSON.stringify(proxmox.containers.get(120)?.options);
      await assert.rejects(findAdoptable(parts, REQUEST, WANTED), refusal(code, message));
      assert.equal(JSON.stringify(proxmox.containers.get(120)?.options), before);
    });

  test("a privileged one is taken when that is said", async () => {
    const { parts } = await world({ unprivileged: false });
    assert.equal((await findAdoptable(parts, REQUEST, { ...WANTED, privileged: true })).name, "wireguard");
  });

  test("one that does not run, a virtual machine and a number nobody has are refused", async () => {
    const { proxmox, parts } = await world();
    proxmox.foreign.set(130, "windows");
    await parts.host.stop("pve1", 120);
    await assert.rejects(findAdoptable(parts, REQUEST, WANTED), refusal("container-stopped", /120 is stopped/));
    await assert.rejects(
      findAdoptable(parts, REQUEST, { ...WANTED, vmid: 130 }),
      refusal("adopt-refused", /virtual machine/),
    );
    await assert.rejects(
      findAdoptable(parts, REQUEST, { ...WANTED, vmid: 131 }),
      refusal("container-unknown", /no guest 131/),
    );
  });

  test("without the log of the task that made it, its host key has to be given, and has to be the one it shows", async () => {
    const { proxmox, parts } = await world();
    proxmox.logs.clear();
    await assert.rejects(findAdoptable(parts, REQUEST, WANTED), refusal("host-key-unknown", /no longer tells/));
    const hostKey = proxmox.containers.get(120)?.hostKey;
    assert.equal((await findAdoptable(parts, REQUEST, { ...WANTED, hostKey })).hostKey, hostKey);
    await assert.rejects(
      findAdoptable(parts, REQUEST, { ...WANTED, hostKey: "nonsense" }),
      refusal("host-key-invalid", /got "nonsense"/),
    );
    const another = `SHA256:${"x".repeat(43)}`;
    await assert.rejects(findAdoptable(parts, REQUEST, { ...WANTED, hostKey: another }), { code: "host-key-mismatch" });
  });
});

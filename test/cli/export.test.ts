import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import YAML from "yaml";
import { toAnsible } from "../../src/cli/exportansible.js";
import { type ExportedContainer, settledContainer, wantedContainer } from "../../src/cli/exportcontainer.js";
import { toPct } from "../../src/cli/exportpct.js";
import { toTerraform } from "../../src/cli/exportterraform.js";
import { renderContainerFiles } from "../../src/netconf/containerfiles.js";
import { createParams } from "../../src/provision/containerparams.js";
import { create, plan } from "../../src/provision/converge.js";
import { readIdentity } from "../../src/provision/identity.js";
import { findContainer } from "../../src/provision/observe.js";
import { parseOptions } from "../../src/provision/spec.js";
import type { CreateParams } from "../../src/pve/guests.js";
import { ModelProxmox } from "../provision/modelhost.js";
import { ModelMachine, modelParts, REQUEST, readPayload } from "../provision/modelparts.js";
import { blocksOf, type HclBlock, type HclBody, parseHcl } from "./hcl.js";

/** An export says what `create` would have said to the API, in other words. */
const PUBLIC_KEY = "ssh-ed25519 AAAA exitnode";
const WHERE = { request: REQUEST, url: "https://pve1.lan:8006", publicKey: PUBLIC_KEY };

const WISHES: readonly { name: string; typed: Record<string, unknown>; login?: string }[] = [
  { name: "nothing chosen", typed: {} },
  {
    name: "everything chosen",
    login: "exitnode@pve!cli",
    typed: {
      ip: "192.168.1.5/24",
      gateway: "192.168.1.1",
      ip6: "fd00::5/64",
      gateway6: "fd00::1",
      vlan: "7",
      bridge: "vmbr1",
      cores: "2",
      memory: "1024",
      disk: "8",
      vmid: "123",
      pool: "exitnode",
      allowLan: ["10.0.0.0/8"],
    },
  },
  { name: "no IPv6", typed: { ip6: "none" } },
];

type Exported = { readonly container: ExportedContainer; readonly params: CreateParams };

/** What is exported for a wish, and what `create` would send for the same. */
async function exported(typed: Record<string, unknown>, login = "root@pam"): Promise<Exported> {
  const proxmox = new ModelProxmox();
  const parts = await modelParts(proxmox, new ModelMachine());
  const request = { ...REQUEST, login };
  const { view } = await plan(parts, request, { name: "home", given: parseOptions(typed) });
  const container = wantedContainer(view, { ...WHERE, request }, parts.random);
  const identity = readIdentity(container.description);
  assert.ok(identity !== undefined && view.placement !== undefined);
  const params = createParams({
    spec: view.spec,
    defaults: request.defaults,
    placement: view.placement,
    vmid: view.spec.given.vmid ?? 100,
    identity,
    publicKey: PUBLIC_KEY,
    mayPassDevices: view.mayPassDevices,
  });
  return { container, params };
}

function only(body: HclBody, ...path: readonly string[]): HclBlock {
  let at = body;
  for (const kind of path) {
    const [found, more] = blocksOf(at, kind);
    assert.ok(found !== undefined && more === undefined, `expected one block ${kind}`);
    at = found;
  }
  return at as HclBlock;
}

const options = (text: unknown): Record<string, string> =>
  Object.fromEntries(
    String(text)
      .split(",")
      .map((part) => [part.slice(0, part.indexOf("=")), part.slice(part.indexOf("=") + 1)]),
  );

/** The resource, read back into parameters of the API. */
function fromTerraform(text: string): Record<string, unknown> {
  const resource = only(parseHcl(text), "resource");
  const get = (path: readonly string[], name: string): unknown => only(resource, ...path).attributes.get(name);
  const ip6 = blocksOf(only(resource, "initialization", "ip_config"), "ipv6")[0]?.attributes;
  const device = blocksOf(resource, "device_passthrough")[0]?.attributes;
  const net = {
    name: get(["network_interface"], "name"),
    bridge: get(["network_interface"], "bridge"),
    tag: get(["network_interface"], "vlan_id"),
    ip: get(["initialization", "ip_config", "ipv4"], "address"),
    gw: get(["initialization", "ip_config", "ipv4"], "gateway"),
    ip6: ip6?.get("address"),
    gw6: ip6?.get("gateway"),
  };
  return {
    ostemplate: get(["operating_system"], "template_file_id"),
    hostname: get(["initialization"], "hostname"),
    unprivileged: resource.attributes.get("unprivileged"),
    cores: get(["cpu"], "cores"),
    memory: get(["memory"], "dedicated"),
    swap: get(["memory"], "swap"),
    rootfs: `${get(["disk"], "datastore_id")}:${get(["disk"], "size")}`,
    net0: Object.fromEntries(
      Object.entries(net).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)]])),
    ),
    features: get(["features"], "nesting") === true ? "nesting=1" : "",
    onboot: resource.attributes.get("start_on_boot"),
    tags: (resource.attributes.get("tags") as string[]).join(";"),
    description: resource.attributes.get("description"),
    "ssh-public-keys": (get(["initialization", "user_account"], "keys") as string[]).join("\n"),
    pool: resource.attributes.get("pool_id"),
    dev0: device === undefined ? undefined : `${device.get("path")},mode=${device.get("mode")}`,
    vmid: resource.attributes.get("vm_id"),
  };
}

function fromAnsible(text: string): Record<string, unknown> {
  const [play] = YAML.parse(text) as { tasks: Record<string, Record<string, unknown>>[] }[];
  const task = play?.tasks[0]?.["community.proxmox.proxmox"] ?? {};
  const disk = task.disk_volume as { storage: string; size: number };
  return {
    ostemplate: task.ostemplate,
    hostname: task.hostname,
    unprivileged: task.unprivileged,
    cores: task.cores,
    memory: task.memory,
    swap: task.swap,
    rootfs: `${disk.storage}:${disk.size}`,
    net0: options((task.netif as { net0: string }).net0),
    features: (task.features as string[]).join(","),
    onboot: task.onboot,
    tags: (task.tags as string[]).join(";"),
    description: task.description,
    "ssh-public-keys": task.pubkey,
    pool: task.pool,
    dev0: /pct set \S+ -dev0 (\S+)/.exec(text)?.[1],
    vmid: task.vmid,
  };
}

/** The script, run by a real shell whose `pct` only tells of its words. */
function ranPct(text: string): { calls: string[][]; files: Map<string, string> } {
  const tell = `tell() { printf '%s\\0' "$@"; printf '\\n\\0'; }
    pvesh() { echo 100; }
    pct() { tell "$@"; case $1 in push) tell content "$4" "$(cat "$3"; echo .)";; create) tell keys "$(cat "\${@: -1}")";; esac; }
    export -f pct pvesh tell\n`;
  const ran = spawnSync("bash", ["--posix", "-c", `${tell}${text}`], { encoding: "utf8" });
  assert.equal(ran.status, 0, ran.stderr);
  const calls: string[][] = [];
  let words: string[] = [];
  for (const word of ran.stdout.split("\0").slice(0, -1)) {
    if (word === "\n") {
      calls.push(words);
      words = [];
    } else words.push(word);
  }
  const files = calls
    .filter(([verb]) => verb === "content")
    .map(([, path = "", content = ""]) => [path, content.slice(0, -1)] as const);
  return { calls: calls.filter(([verb]) => verb !== "content"), files: new Map(files) };
}

function fromPct(text: string): Record<string, unknown> {
  const { calls } = ranPct(text);
  const [, vmid, ostemplate, ...words] = calls.find(([verb]) => verb === "create") ?? [];
  const given: Record<string, string> = {};
  for (let at = 0; at + 1 < words.length; at += 2) given[(words[at] ?? "").replace(/^--/, "")] = words[at + 1] ?? "";
  const { cores, memory, swap, unprivileged, onboot, net0, ...rest } = given;
  return {
    ...rest,
    ostemplate,
    vmid: Number(vmid),
    cores: Number(cores),
    memory: Number(memory),
    swap: Number(swap),
    unprivileged: unprivileged === "1",
    onboot: onboot === "1",
    net0: options(net0),
    "ssh-public-keys": calls.find(([verb]) => verb === "keys")?.[1],
  };
}

const files = async () => renderContainerFiles((await readPayload()).templates, {});
const FORMATS: readonly { format: string; read: (container: ExportedContainer) => Promise<Record<string, unknown>> }[] =
  [
    { format: "terraform", read: async (container) => fromTerraform(toTerraform(container)) },
    { format: "ansible", read: async (container) => fromAnsible(toAnsible(container)) },
    { format: "pct", read: async (container) => fromPct(toPct(container, await files())) },
  ];

for (const { format, read } of FORMATS)
  for (const { name, typed, login } of WISHES)
    test(`${format}, ${name}: says what create would send to the API`, async () => {
      const { container, params } = await exported(typed, login);
      const back = await read(container);
      const expected: Record<string, unknown> = { ...params, net0: options(params.net0) };
      // Without --vmid, each tool takes the next free one by itself.
      if (typed.vmid === undefined) expected.vmid = back.vmid;
      const defined = (of: Record<string, unknown>) =>
        Object.fromEntries(Object.entries(of).filter(([, one]) => one !== undefined));
      assert.deepEqual(defined(back), defined(expected));
    });

test("a container that another tool made from an export is gone on with by create, not made twice", async () => {
  const proxmox = new ModelProxmox();
  const parts = await modelParts(proxmox, new ModelMachine());
  const wanted = { name: "home", given: {} };
  const { view } = await plan(parts, REQUEST, wanted);
  const container = wantedContainer(view, WHERE, parts.random);
  const { vmid: _, net0: __, ...given } = fromPct(toPct(container, []));
  await parts.host.upload("pve1", "local", {
    path: "/cache/a",
    name: "debian-13-exitnode_0.1.0-1_amd64.tar.zst",
    sizeBytes: 60_000_000,
    sha512: "00",
  });
  await parts.host.create("pve1", {
    ...given,
    vmid: 100,
    ostemplate: container.template,
    net0: "name=eth0,bridge=vmbr0,ip=dhcp,ip6=auto",
  });
  const done = await create(parts, REQUEST, wanted);
  assert.deepEqual([...proxmox.containers.keys()], [100]);
  assert.equal(done.view.container?.identity.id, readIdentity(container.description)?.id);
  assert.ok(!done.steps.some(({ step }) => step === "create-container"));
});

test("a container that is there is exported as it is, and Terraform takes it over instead of making another", async () => {
  const proxmox = new ModelProxmox();
  const parts = await modelParts(proxmox, new ModelMachine());
  await create(parts, REQUEST, { name: "home", given: parseOptions({ memory: "1024", vlan: "7" }) });
  const there = await findContainer(parts.host, await parts.host.guests(), "home");
  assert.ok(there !== undefined);
  const body = parseHcl(toTerraform(settledContainer(there, "local:vztmpl/x.tar.xz", WHERE)));
  assert.equal(only(body, "import").attributes.get("id"), "pve1/100");
  const resource = only(body, "resource");
  assert.equal(resource.attributes.get("vm_id"), 100);
  assert.equal(only(resource, "memory").attributes.get("dedicated"), 1024);
  assert.equal(only(resource, "network_interface").attributes.get("vlan_id"), 7);
  assert.equal(only(resource, "disk").attributes.get("size"), 4);
  const ignored = only(resource, "lifecycle").attributes.get("ignore_changes");
  assert.ok(JSON.stringify(ignored).includes("operating_system"));
});

test("the login's secret is a variable in Terraform and in Ansible, for a token and for a password", async () => {
  for (const login of ["exitnode@pve!cli", "root@pam"]) {
    const { container } = await exported({}, login);
    const provider = only(parseHcl(toTerraform(container)), "provider");
    const secret = provider.attributes.get(login === "root@pam" ? "password" : "api_token");
    assert.ok(JSON.stringify(secret).includes("var.proxmox_secret"), JSON.stringify(secret));
    const [play] = YAML.parse(toAnsible(container)) as { module_defaults: Record<string, Record<string, string>> }[];
    const access = play?.module_defaults["community.proxmox.proxmox"] ?? {};
    assert.equal(login === "root@pam" ? access.api_password : access.api_token_secret, "{{ proxmox_secret }}");
  }
});

test("pct pushes every file that holds nothing secret, byte for byte", async () => {
  const { container } = await exported({});
  const wanted = await files();
  const pushed = ranPct(toPct(container, wanted)).files;
  assert.deepEqual(pushed, new Map(wanted.map(({ path, content }) => [path, content])));
});

const terraform = spawnSync("terraform", ["version"], { encoding: "utf8" });
const skip = terraform.status === 0 ? false : "terraform is not on this machine";

test("terraform itself reads the file, and finds it laid out as it would lay it out", { skip }, async () => {
  for (const { typed, login } of WISHES) {
    const { container } = await exported(typed, login);
    const text = toTerraform({ ...container, description: `${container.description} "\${x}" %{y} \\` });
    const ran = spawnSync("terraform", ["fmt", "-"], { input: text, encoding: "utf8" });
    assert.equal(ran.status, 0, ran.stderr);
    assert.equal(ran.stdout, text);
  }
});

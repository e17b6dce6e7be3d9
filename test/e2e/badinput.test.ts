import assert from "node:assert/strict";
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, truncateSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import YAML from "yaml";
import { connectPve } from "../../src/pve/client.js";
import { systemClock } from "../../src/sys/clock.js";
import { openHttps } from "../../src/sys/https.js";
import { eventually, object, World } from "./world.js";

/** Bad input on the real path: each has its code, says what it got and what was expected, and leaves nothing behind. */

const world = new World();
const CREATE = ["create", "--host", "lab", "--name", "other"];
const TEMPLATES = "/var/lib/exitnode-lab/storage/local/template/cache";

type Administration = { hosts: Record<string, Record<string, unknown>>; coordinator?: unknown };
const configPath = join(world.env.EXITNODE_CONFIG, "config.yaml");
const credentialsPath = join(world.env.EXITNODE_CONFIG, "credentials.yaml");
const read = (path: string): Administration => YAML.parse(readFileSync(path, "utf8")) as Administration;

/** A copy of the lab's host under another name, changed. */
function addHost(name: string, from: string, change: Record<string, unknown>, secret?: string): void {
  const config = read(configPath);
  const credentials = read(credentialsPath);
  config.hosts[name] = { ...config.hosts[from], ...change };
  credentials.hosts[name] = { ...credentials.hosts[from], ...(secret === undefined ? {} : { secret }) };
  writeFileSync(configPath, YAML.stringify(config));
  writeFileSync(credentialsPath, YAML.stringify(credentials), { mode: 0o600 });
}

async function vmids(): Promise<unknown[]> {
  const { containers } = await world.json("lab", "status");
  assert.ok(Array.isArray(containers));
  return containers.map((container) => object(container).vmid);
}

let vmid = 0;
before(async () => {
  await world.raiseLab();
  await world.json("appliance", "build");
  vmid = Number(object((await world.json("create", "--host", "lab", "--name", "home")).exitNode).vmid);
});
after(() => world.close());
afterEach(async () => assert.deepEqual(await vmids(), [vmid]));

describe("create", () => {
  const cases: { what: string; options: string[]; code: string; message: RegExp; advice: RegExp }[] = [
    {
      what: "a name that is no DNS label",
      options: ["--name", "Bad_Name"],
      code: "name-invalid",
      message: /"Bad_Name"/,
      advice: /create --name/,
    },
    {
      what: "a VMID that is taken",
      options: ["--vmid", "VMID"],
      code: "vmid-taken",
      message: /VMID/,
      advice: /--vmid|exitnode/,
    },
    {
      what: "an unknown storage",
      options: ["--storage", "nosuch"],
      code: "storage-unknown",
      message: /"nosuch".*local/,
      advice: /--storage local/,
    },
    {
      what: "a disk larger than the storage",
      options: ["--disk", "8000"],
      code: "storage-full",
      message: /8000/,
      advice: /--disk/,
    },
    {
      what: "an unknown bridge",
      options: ["--bridge", "vmbr9"],
      code: "bridge-unknown",
      message: /"vmbr9".*vmbr0/,
      advice: /--bridge vmbr0/,
    },
    {
      what: "a template that is not there",
      options: ["--template", "local:vztmpl/nope.tar.zst"],
      code: "template-missing",
      message: /nope\.tar\.zst/,
      advice: /appliance build/,
    },
  ];
  for (const { what, options, code, message, advice } of cases)
    test(`${what}: ${code}`, async () => {
      const filled = options.map((option) => option.replace("VMID", String(vmid)));
      const failure = await world.fails([...CREATE, ...filled]);
      assert.equal(failure.code, code);
      assert.match(failure.message, new RegExp(message.source.replace("VMID", String(vmid))));
      assert.match(failure.advice, advice);
    });

  test("an unknown host: host-unknown, and the known ones are named", async () => {
    const failure = await world.fails(["create", "--host", "nosuch"]);
    assert.equal(failure.code, "host-unknown");
    assert.match(failure.message, /lab, lab-token/);
    assert.match(failure.advice, /^exitnode host list/);
  });

  test("another certificate than the pinned one: fingerprint-mismatch", async () => {
    addHost("forged", "lab", { fingerprint: Array(32).fill("AB").join(":") });
    const failure = await world.fails(["create", "--host", "forged", "--name", "other"]);
    assert.equal(failure.code, "fingerprint-mismatch");
    assert.match(failure.message, /AB:AB/);
    assert.notEqual(failure.advice, "");
  });

  test("a wrong token: login-refused, without the token", async () => {
    const secret = "11111111-2222-3333-4444-555555555555";
    addHost("wrong-token", "lab-token", {}, secret);
    const failure = await world.fails(["create", "--host", "wrong-token", "--name", "other"]);
    assert.equal(failure.code, "login-refused");
    assert.doesNotMatch(JSON.stringify(failure), new RegExp(secret));
    assert.notEqual(failure.advice, "");
  });

  test("a token without privileges: all that is missing at once, as pveum lines", async () => {
    const { url = "", fingerprint = "" } = read(configPath).hosts.lab as { url: string; fingerprint: string };
    const secret = String(read(credentialsPath).hosts.lab?.secret);
    const https = openHttps();
    // The lab keeps its accounts from one time to the next.
    const name = `bare${process.pid}`;
    try {
      const root = connectPve({ https, clock: systemClock }, { url, fingerprint, login: "root@pam", secret });
      const bare = await root.createToken("exitnode@pve", name, "a token that may do nothing");
      addHost("bare", "lab", { login: `exitnode@pve!${name}` }, bare.secret);
    } finally {
      https.close();
    }
    const failure = await world.fails(["create", "--host", "bare", "--name", "other"]);
    assert.equal(failure.code, "permissions-missing");
    for (const privilege of ["VM.Allocate", "VM.Config.Network", "VM.PowerMgmt", "Datastore.AllocateSpace", "SDN.Use"])
      assert.match(failure.message + failure.advice, new RegExp(privilege.replace(".", "\\.")));
    assert.match(failure.advice, /^.*pveum acl modify \/.*--tokens 'exitnode@pve!bare\d+'/m);
  });

  test("a login that may not pass /dev/net/tun, on a kernel without WireGuard: both ways out are named", async () => {
    const failure = await world.fails(["create", "--host", "lab-token", "--name", "other"]);
    assert.equal(failure.code, "data-plane-unavailable");
    assert.match(failure.advice, /modprobe wireguard/);
    assert.match(failure.advice, /root@pam/);
  });

  test("a template whose bytes are not the manifest's: refused before it is used", async () => {
    const cache = join(world.folder, "cache");
    const folder = join(cache, "exitnode/appliance");
    mkdirSync(folder, { recursive: true });
    const built = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "exitnode/appliance");
    cpSync(built, folder, { recursive: true });
    const name = readdirSync(folder).find((file) => /\.tar\.\w+$/.test(file)) ?? "";
    truncateSync(join(folder, name), 1_000_000);
    const uploaded = join(TEMPLATES, name);
    renameSync(uploaded, `${uploaded}.away`);
    try {
      const failure = await world.fails(CREATE, { env: { XDG_CACHE_HOME: cache } });
      assert.match(failure.code, /^(template|appliance|checksum)-/);
      assert.match(failure.advice, /appliance build/);
    } finally {
      renameSync(`${uploaded}.away`, uploaded);
    }
  });

  test("a container without SSH: ssh-refused, with what to look at", async () => {
    await world.inside(vmid, "systemctl", "stop", "ssh");
    try {
      const failure = await world.fails(["create", "--host", "lab", "--name", "home"]);
      assert.equal(failure.code, "ssh-refused");
      assert.notEqual(failure.advice, "");
    } finally {
      await world.inside(vmid, "systemctl", "start", "ssh");
    }
  });

  test("a network that gives no address: address-missing after a minute and a half, and the container is taken away", async () => {
    const { daemons } = await world.json("lab", "status");
    assert.ok(Array.isArray(daemons));
    const dhcp = Number(daemons.map(object).find(({ name }) => name === "dns-home")?.pid);
    process.kill(dhcp, "SIGSTOP");
    try {
      const failure = await world.fails([...CREATE, "--ip6", "none"]);
      assert.equal(failure.code, "address-missing");
      assert.match(failure.message, /90 s.*vmbr0/);
      assert.match(failure.advice, /--ip/);
    } finally {
      process.kill(dhcp, "SIGCONT");
    }
  });

  test("a corrupted configuration: the file and the line", async () => {
    const intact = readFileSync(configPath, "utf8");
    writeFileSync(configPath, intact.replace("login: root@pam", "login: root at pam"));
    try {
      const failure = await world.fails(CREATE);
      assert.equal(failure.code, "config-invalid");
      const line = intact.split("\n").findIndex((text) => text.includes("login: root@pam")) + 1;
      assert.match(failure.message, new RegExp(`config\\.yaml line ${line}: hosts\\.lab\\.login`));
    } finally {
      writeFileSync(configPath, intact);
    }
  });
});

describe("up --join", () => {
  const join_ = (key: string): ReturnType<World["fails"]> =>
    world.fails(["lab", "exec", "laptop", "--", "exitnode", "up", "--name", "laptop"], {
      env: { EXITNODE_JOIN_KEY: key },
    });
  const leftovers = async (): Promise<string> =>
    (
      await world.at(
        "laptop",
        "sh",
        "-c",
        "ls /var/lib/exitnode-lab/places/laptop/etc; ip rule | grep -c 5182; pgrep -f [e]xitnode-program",
      )
    ).stdout;

  test("garbage: join-key-invalid before anything is touched", async () => {
    assert.equal((await join_("exnkey1-garbage")).code, "join-key-invalid");
    assert.equal((await join_("hello")).code, "join-key-invalid");
    assert.doesNotMatch(await leftovers(), /agent\.yaml/);
  });

  test("a key that has expired: join-key-expired", async () => {
    const { joinKey, id } = await world.json("key", "create", "--role", "device", "--lifetime", "1s");
    const expired = async (): Promise<boolean> => {
      const { keys } = await world.json("key", "list");
      assert.ok(Array.isArray(keys));
      return keys.map(object).some((key) => key.id === id && key.state === "expired");
    };
    await eventually("the key has expired", expired, 60_000);
    const failure = await join_(String(joinKey));
    assert.equal(failure.code, "join-key-expired");
    assert.match(failure.advice, /key create/);
    assert.doesNotMatch(await leftovers(), /agent\.yaml|\d{2,}/);
  });

  test("a key that was used: join-key-used", async () => {
    const { joinKey } = await world.json("key", "create", "--role", "device");
    const first = await world.run(["lab", "exec", "vps", "--", "exitnode", "up", "--name", "first"], {
      env: { EXITNODE_JOIN_KEY: String(joinKey) },
    });
    assert.equal(first.code, 0, first.stderr);
    assert.equal((await join_(String(joinKey))).code, "join-key-used");
    assert.doesNotMatch(await leftovers(), /agent\.yaml/);
    assert.equal((await world.run(["lab", "exec", "vps", "--", "exitnode", "down", "--forget"])).code, 0);
  });
});

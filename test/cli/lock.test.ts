import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Agent } from "../../src/agent/agent.js";
import { Failure } from "../../src/kit/failure.js";
import { parseIp } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { systemClock } from "../../src/sys/clock.js";
import { localFiles } from "../../src/sys/files.js";
import { serveLines } from "../../src/sys/localsocket.js";
import { systemRandom } from "../../src/sys/random.js";
import { openSqlite } from "../../src/sys/sqlite.js";
import { dialWebSocket } from "../../src/sys/websocket.js";
import { agentConfig } from "../../src/wire/agentconfig.js";
import { agentAnswer, agentStatus } from "../../src/wire/agentsocket.js";
import { decodeJoinKey, encodeJoinKey } from "../../src/wire/joinkey.js";
import { fingerprintOf, type MapLock, readRecord } from "../../src/wire/lock.js";
import { ModelBackend, ModelMachine } from "../agent/modelmachine.js";
import { type Administrator, administratorOf } from "../coordinator/administrator.js";
import { type Bench, openBench } from "../coordinator/bench.js";
import { until } from "../engine/patience.js";

/** `exitnode lock …` as people type it: a real coordinator, and agents whose data planes are models. */
const REACHED_WITHIN_MS = 60_000;
const LIMIT = { timeout: 300_000 };
let bench: Bench;
const machines: Machine[] = [];
before(async () => {
  bench = await openBench();
});
after(async () => {
  for (const machine of machines) await machine.stop();
  await bench.close();
});

/** A machine with an agent, whose person is an administrator. */
class Machine {
  readonly name: string;
  readonly folder: string;
  backend: ModelBackend | undefined;
  readonly #stop = new AbortController();
  #ended: Promise<void> = Promise.resolve();
  #close: () => Promise<void> = async () => undefined;
  #exitnode: Administrator | undefined;

  constructor(name: string) {
    this.name = name;
    this.folder = join(bench.folder, "machines", name);
  }

  /** `joinKey`: one of its administrator's; left out, one without a list of trusted devices. */
  static async join(name: string, joinKey?: string): Promise<Machine> {
    const machine = new Machine(name);
    machines.push(machine);
    const urls = [`https://127.0.0.1:${bench.coordinator.port}`];
    const { publicKey } = bench.coordinator;
    const brought = joinKey === undefined ? await bench.key({ role: "device" }) : decodeJoinKey(joinKey);
    const key = { ...brought, urls, coordinatorKey: publicKey };
    await localFiles.write(join(machine.folder, "join.key"), encodeJoinKey(key));
    const config = { name, role: "device", coordinator: { urls, publicKey } };
    // JSON is YAML.
    await localFiles.write(join(machine.folder, "agent.yaml"), JSON.stringify(config));
    await machine.#start(agentConfig.parse(config));
    return machine;
  }

  async #start(config: ReturnType<typeof agentConfig.parse>): Promise<void> {
    const { folder } = this;
    const model = new ModelMachine();
    const agent = new Agent(
      {
        files: localFiles,
        exec: model.exec,
        clock: systemClock,
        random: systemRandom,
        log: { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined },
        dial: dialWebSocket,
        fetchText: async () => undefined,
        dialRelay: async (url) => {
          throw new Failure("relay-unreachable", `${url}: nothing listens there`);
        },
        lookUp: async (name) => parseIp(name),
        openSocket: async (port) => ({ port, onReceive: undefined, send: () => undefined, close: () => undefined }),
        fetchHttp: async () => undefined,
        netInfo: () => ({ addresses: [], resolvers: [] }),
        openBackend: async (kind) => {
          this.backend = new ModelBackend(kind, model);
          return this.backend;
        },
        probeKernel: async () => false,
        uid: 995,
        nameService: { serve: async () => ({ port: 5_300, close: async () => undefined }), ask: async () => undefined },
        version: "test",
        folders: { var: folder },
        ready: () => undefined,
      },
      config,
    );
    this.#close = await serveLines(join(folder, "agent.sock"), 0o600, (value) => agent.answer(value));
    this.#ended = agent.run(this.#stop.signal);
    this.#exitnode = await administratorOf(bench, { EXITNODE_ETC: folder, EXITNODE_RUN: folder, EXITNODE_VAR: folder });
    // With its first map both it and the coordinator know how it stands to the lock.
    await until(`${this.name} has joined`, async () => {
      const said = agentAnswer.parse(await agent.answer({ do: "status" }));
      return said.ok && agentStatus.parse(said.value).coordinator.mapSeq !== undefined;
    });
  }

  /** A join key, made here as people make one; and what is said of it. */
  async key(): Promise<{ readonly joinKey: string; readonly words: string }> {
    const { stdout } = (await this.#exitnode?.run("key", "create")) ?? assert.fail();
    const [joinKey = "", ...words] = stdout.split("\n");
    return { joinKey, words: words.join("\n") };
  }

  /** What it prints; a command that fails says why in the assertion. */
  async run(...args: string[]): Promise<Record<string, unknown>> {
    const { code, stdout, stderr } = (await this.#exitnode?.run("lock", ...args, "--json")) ?? assert.fail();
    assert.equal(code, 0, `${this.name}: exitnode lock ${args.join(" ")}: ${stdout} ${stderr}`);
    return JSON.parse(stdout);
  }

  async refused(...args: string[]): Promise<string> {
    const { code, stdout } = (await this.#exitnode?.run("lock", ...args, "--json")) ?? assert.fail();
    assert.notEqual(code, 0, stdout);
    return (JSON.parse(stdout) as { error: { code: string } }).error.code;
  }

  async shown(...args: string[]): Promise<string> {
    return (await this.#exitnode?.run("lock", ...args))?.stdout ?? "";
  }

  async fingerprint(): Promise<string> {
    const { device } = (await this.run("status")) as { device: { fingerprint: string } };
    return device.fingerprint;
  }

  /** Fulfilled when its data plane has these peers and no others. */
  async reaches(...others: Machine[]): Promise<void> {
    const wanted = others.map(({ name }) => name).sort();
    for (const deadline = systemClock.now() + REACHED_WITHIN_MS; ; ) {
      const { devices } = (await bench.call("GET", "/api/v1/devices")).body as {
        devices: { name: string; publicKey: string }[];
      };
      const keys = new Set((this.backend?.want?.peers ?? []).map(({ publicKey }): string => publicKey));
      const names = devices.filter(({ publicKey }) => keys.has(publicKey)).map(({ name }) => name);
      if (names.sort().join() === wanted.join() && keys.size === wanted.length) return;
      assert.ok(systemClock.now() < deadline, `${this.name} has ${names}, not ${wanted}`);
      await systemClock.sleep(20);
    }
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#ended;
    await this.#close();
  }
}

const lockNow = async (): Promise<MapLock> => (await bench.call("GET", "/api/v1/lock")).body as MapLock;

test("a lock from its first device to its end, with the words people see on the way", LIMIT, async () => {
  const [laptop, home] = [await Machine.join("laptop"), await Machine.join("home")];
  await Promise.all([laptop.reaches(home), home.reaches(laptop)]);
  assert.equal((await laptop.run("status")).on, false);
  assert.equal(await laptop.refused("sign", "home", "--yes"), "lock-off");
  assert.equal(await laptop.refused("enable"), "confirmation-needed");

  const enabled = (await laptop.run("enable", "--yes")) as { secret: string; signed: string[] };
  assert.deepEqual(enabled.signed, ["home"]);
  assert.match(enabled.secret, /^(?:[0-9a-f]{4}-){7}[0-9a-f]{4}$/);
  await Promise.all([laptop.reaches(home), home.reaches(laptop)]);
  assert.equal(await home.refused("enable", "--yes"), "lock-on");

  const phone = await Machine.join("phone");
  assert.match(await phone.shown("status"), /waits .*signature[\s\S]*exitnode lock sign phone/);
  assert.match(await laptop.shown("status"), /phone +waits for a signature/);
  assert.equal(await home.refused("sign", "phone", "--yes"), "lock-untrusted");
  assert.equal(await laptop.refused("sign", "phone"), "confirmation-needed");
  const wrong = await home.fingerprint();
  assert.equal(await laptop.refused("sign", "phone", "--fingerprint", wrong), "lock-fingerprint-differs");
  await laptop.reaches(home);
  await laptop.run("sign", "phone", "--fingerprint", await phone.fingerprint());
  await Promise.all([laptop.reaches(home, phone), home.reaches(laptop, phone), phone.reaches(laptop, home)]);
  const again = (await laptop.run("sign", "phone", "home", "--yes")) as { signed: unknown[]; already: unknown[] };
  assert.deepEqual([again.signed.length, again.already.length], [0, 2]);

  // A second trusted device, which signs; and the first one retired, without anybody being out.
  await laptop.run("trust", "phone", "--yes");
  const tablet = await Machine.join("tablet");
  await phone.run("sign", "tablet", "--yes");
  await laptop.reaches(home, phone, tablet);
  assert.equal(await phone.refused("distrust", "phone"), "lock-own-trust");
  const retired = (await phone.run("distrust", "laptop")) as { signed: { name: string }[]; trusted: string[] };
  assert.deepEqual(retired.signed.map(({ name }) => name).sort(), ["home", "laptop"]);
  assert.deepEqual(retired.trusted, [await phone.fingerprint()]);
  await Promise.all([laptop.reaches(home, phone, tablet), home.reaches(laptop, phone, tablet)]);
  assert.equal(await laptop.refused("sign", "tablet", "--yes"), "lock-untrusted");

  // One that was stolen: it and what it signed wait.
  await phone.run("trust", "tablet", "--yes");
  const cabin = await Machine.join("cabin");
  await tablet.run("sign", "cabin", "--yes");
  await phone.reaches(laptop, home, tablet, cabin);
  await phone.run("distrust", "tablet", "--shut-out");
  await Promise.all([phone.reaches(laptop, home), home.reaches(laptop, phone)]);
  assert.match(await phone.shown("status"), /tablet +shut out/);

  // One that was signed by mistake, and let in again.
  await phone.run("shut-out", await laptop.fingerprint());
  await home.reaches(phone);
  await phone.run("sign", "laptop", "--yes");
  await home.reaches(laptop, phone);

  // The coordinator is restored from a backup of another day: the next command gives it back what it lost.
  const { records } = await lockNow();
  const versions = (all: readonly string[]) => all.map((record) => readRecord(record)?.version);
  assert.deepEqual(versions(records), [1, 2, 3, 4, 5, 6, 7]);
  const db = openSqlite(join(bench.folder, "coordinator.db"));
  const older = JSON.stringify({ records: records.slice(0, 2) });
  db.prepare("update setting set value = ? where name = 'device-lock'").run([older]);
  db.close();
  await bench.restart();
  await phone.reaches(laptop, home);
  await phone.run("sign", "cabin", "--yes");
  assert.deepEqual(versions((await lockNow()).records), [1, 2, 3, 4, 5, 6, 7]);
  await phone.reaches(laptop, home, cabin);

  assert.equal(await home.refused("disable"), "confirmation-needed");
  const said = await home.run("status");
  assert.ok(!JSON.stringify(said).includes(enabled.secret.replaceAll("-", "")));
});

test(
  "a join key made on a device of the lock carries its list, and one made elsewhere says that it does not",
  LIMIT,
  async () => {
    const phone = machines.find(({ name }) => name === "phone") ?? assert.fail("the first test has made it");
    const { joinKey, words } = await phone.key();
    assert.equal(readRecord(decodeJoinKey(joinKey).record ?? "")?.version, 7);
    assert.match(words, /with the list of trusted devices \(version 7\)/);
    const den = await Machine.join("den", joinKey);
    await phone.run("sign", "den", "--fingerprint", await den.fingerprint());
    await den.reaches(...machines.filter(({ name }) => ["phone", "laptop", "home", "cabin"].includes(name)));
    assert.equal((await den.run("status")).believed, undefined);

    const study = await administratorOf(bench);
    const made = await study.run("key", "create");
    assert.match(made.stdout, /without the list of trusted devices[\s\S]*exitnode lock status/);
    const attic = await Machine.join("attic", made.stdout.split("\n")[0]);
    assert.equal((await attic.run("status")).believed, true);
    assert.match(await attic.shown("status"), /not verified: .*\n? *.*compare/);
  },
);

test("a machine whose lock file is lost or damaged is told what to do", LIMIT, async () => {
  const machine = machines[0] ?? assert.fail("the first test has made some");
  assert.equal(await machine.refused("forget"), "confirmation-needed");
  assert.deepEqual(await machine.run("forget", "--yes"), { forgotten: true });
  const status = (await machine.run("status")) as { on: boolean; trusted: string[] };
  assert.equal(status.on, true, "the coordinator's is the next that it hears of");
  assert.match(status.trusted[0] ?? "", /^[0-9a-f]{4}-/);
  assert.notEqual(fingerprintOf(keyOf(systemRandom(32))), status.trusted[0]);
});

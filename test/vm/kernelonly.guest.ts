import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { KernelWireGuard, probeKernelWireGuard } from "../../src/agent/kernelwireguard.js";
import { utf8 } from "../../src/kit/bytes.js";
import { parseEndpoint } from "../../src/kit/endpoint.js";
import { readTemplates, renderContainerFiles } from "../../src/netconf/containerfiles.js";
import { systemClock } from "../../src/sys/clock.js";
import { type DatagramSocket, openDatagramSocket } from "../../src/sys/dgram.js";
import { localExec, mustRun } from "../../src/sys/exec.js";
import { Inbox } from "../engine/inbox.js";
import { insidePlace } from "../engine/insideplace.js";
import { makePair, must, type Place, pings, removePlaces, stop } from "../engine/places.js";
import { kernelIn } from "./kernelbench.js";
import { sample, strangers } from "./sample.js";

/** What only a kernel with WireGuard can show. The first tests come before anything has loaded the module. */
const isLoaded = async (module: string) => new RegExp(`^${module} `, "m").test(await readFile("/proc/modules", "utf8"));

describe("an unprivileged user in namespaces of their own", () => {
  const NAME = "exn-kw-u";
  const AS_NOBODY = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"];
  let holder: ChildProcess;
  let place: Place;

  before(async () => {
    const unshared = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo there; exec sleep 600"];
    holder = spawn(AS_NOBODY[0] ?? "", [...AS_NOBODY.slice(1), ...unshared], { stdio: ["ignore", "pipe", "inherit"] });
    assert.ok(holder.stdout !== null);
    await once(createInterface({ input: holder.stdout }), "line");
    await mustRun(localExec, ["ip", "netns", "attach", NAME, String(holder.pid)]);
    const enter = ["nsenter", "--target", String(holder.pid), "--user", "--net", "--preserve-credentials"];
    place = {
      name: NAME,
      exec: { run: (argv, options) => localExec.run([...AS_NOBODY, ...enter, ...argv], options) },
    };
    await must(place, "ip link set lo up");
  });
  after(async () => {
    await stop(holder);
    await removePlaces(NAME);
  });

  test("make a WireGuard interface, and the kernel loads its module by itself", async () => {
    assert.equal(await isLoaded("wireguard"), false);
    assert.equal(await probeKernelWireGuard(place.exec), true);
    assert.equal(await isLoaded("wireguard"), true);
    assert.doesNotMatch(await must(place, "ip -brief link"), /exn/, "the probe leaves nothing");
  });

  test("have probes and masquerade beside it, with nothing prepared", async () => {
    assert.equal(await isLoaded("nf_tables"), false);
    const backend = kernelIn(place, "exn-kw-u");
    await backend.set(sample("exn-kw-u"));
    assert.deepEqual((await backend.state()).warnings, []);
    await must(
      place,
      "nft -f -",
      `table inet t {
  chain c {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "lo" masquerade
  }
}
`,
    );
  });
});

describe("between two kernels", () => {
  const device = "exn-kw-a";
  const remote = "exn-kw-b";
  let here: Place;
  let there: Place;
  let backend: KernelWireGuard;
  const sockets: DatagramSocket[] = [];

  before(async () => {
    [here, there] = await makePair("exn-kw-1", "exn-kw-2");
    for (const [place, name, side, address] of [
      [here, device, "left", "100.64.8.1/24"],
      [there, remote, "right", "100.64.8.2/24"],
    ] as const) {
      await new KernelWireGuard(place.exec, name, systemClock).set(sample(name, side));
      await must(place, `ip link set ${name} mtu 1280 up`);
      await must(place, `ip address add ${address} dev ${name}`);
    }
    assert.equal(await pings(here, "100.64.8.2"), true);
  });
  after(async () => {
    for (const socket of sockets) socket.close();
    await backend?.close();
    await removePlaces("exn-kw-1", "exn-kw-2");
  });

  const handshake = () => must(here, `wg show ${device} latest-handshakes`);

  /** Pings while the work is done and a little longer: the numbers of those that never came back. */
  async function lostWhile(everySeconds: string, work: () => Promise<void>): Promise<{ came: number; lost: number[] }> {
    const argv = ["netns", "exec", here.name, "ping", "-n", "-i", everySeconds, "-W", "5", "100.64.8.2"];
    const ping = spawn("ip", argv, { stdio: ["ignore", "pipe", "inherit"] });
    const came = new Set<number>();
    let more: (() => void) | undefined;
    createInterface({ input: ping.stdout }).on("line", (line) => {
      const number = Number(/icmp_seq=(\d+) /.exec(line)?.[1] ?? 0);
      if (number > 0) came.add(number);
      if (came.size > 0) more?.();
    });
    const answers = async (count: number): Promise<void> => {
      const until = came.size + count;
      while (came.size < until)
        await new Promise<void>((resolve) => {
          more = resolve;
        });
    };
    await answers(3);
    await work();
    await answers(3);
    ping.kill("SIGKILL");
    await once(ping, "close");
    const last = Math.max(...came);
    const lost = Array.from({ length: last }, (_, i) => i + 1).filter((number) => !came.has(number));
    return { came: came.size, lost };
  }

  test("the interface outlives a killed agent, and the next one adopts it: no packet is lost, the session is the same", async () => {
    const before = await handshake();
    const { came, lost } = await lostWhile("0.1", async () => {
      const program = fileURLToPath(new URL("holder.js", import.meta.url));
      const first = spawn(process.execPath, [program, here.name, device], { stdio: ["ignore", "pipe", "inherit"] });
      await once(createInterface({ input: first.stdout }), "line");
      first.kill("SIGKILL");
      await once(first, "exit");
      assert.match(await must(here, "ip -brief link"), new RegExp(device));
      backend = kernelIn(here, device);
      await backend.set(sample(device));
    });
    assert.ok(came > 10, `${came} answers`);
    assert.deepEqual(lost, []);
    assert.equal(await handshake(), before);
    assert.deepEqual((await backend.state()).warnings, [], "the second has the probes' port");
  });

  test("hundreds of peers are set in one go, and a change to all of them loses no packet of the one that talks", async () => {
    const { lost } = await lostWhile("0.05", async () => {
      for (const port of [1_001, 1_002]) {
        const from = performance.now();
        await backend.set(sample(device, "left", strangers(300, port)));
        process.stdout.write(`set() of 301 peers: ${Math.round(performance.now() - from)} ms\n`);
      }
    });
    assert.deepEqual(lost, []);
    assert.equal((await backend.state()).peers.length, 301);
    await backend.set(sample(device));
    assert.equal((await backend.state()).peers.length, 1);
  });

  test("the exit node's own firewall lets probes in by WireGuard's port, and nobody by the probe port", async () => {
    const sources = await readTemplates((name) => readFile(`/exitnode/tests/templates/${name}`, "utf8"));
    const firewall = renderContainerFiles(sources, { uplink: "wire", tunnel: device }).find(
      ({ path }) => path === "/etc/nftables.conf",
    );
    await must(here, "nft -f -", firewall?.content);
    const theirs = await insidePlace(there, () => openDatagramSocket(40_000));
    sockets.push(theirs);
    const outside = new Inbox(theirs);
    theirs.onReceive = outside.take;
    const inside = new Inbox();
    assert.ok(backend.probes !== undefined);
    backend.probes.onReceive = inside.take;
    for (const address of ["10.99.7.1", "[fd99:7::1]"]) {
      outside.send(parseEndpoint(`${address}:51821`), utf8("EXNDpast the port"));
      outside.send(parseEndpoint(`${address}:51820`), utf8("EXNDby the port"));
      const { datagram, from } = await inside.next();
      assert.deepEqual(datagram, utf8("EXNDby the port"));
      backend.probes.send(from, utf8("EXNDanswer"));
      assert.deepEqual(await outside.next(), {
        datagram: utf8("EXNDanswer"),
        from: parseEndpoint(`${address}:51820`),
      });
    }
    assert.equal(await pings(here, "100.64.8.2"), true);
    assert.doesNotMatch(await must(here, "cat /proc/net/nf_conntrack"), /518(20|21).*40000|40000.*518(20|21)/);
  });
});

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
import { lostWhile } from "./lostwhile.js";
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
    removePlaces(NAME);
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
    removePlaces("exn-kw-1", "exn-kw-2");
  });

  const handshake = () => must(here, `wg show ${device} latest-handshakes`);

  test("the interface outlives a killed agent, and the next one adopts it: no packet is lost, the session is the same", async () => {
    const before = await handshake();
    const { came, lost } = await lostWhile(here, "100.64.8.2", "0.1", async () => {
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
    const { lost } = await lostWhile(here, "100.64.8.2", "0.05", async () => {
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
  });

  test("a firewall that lets in answers alone lets in those to probes, and WireGuard's where probes have been", async () => {
    await must(here, "nft -f -", `flush ruleset\n${ANSWERS_ALONE}`);
    // The table of probes went with all others: an agent sets it again with its next map.
    await backend.set(sample(device, "left", strangers(1, 1_001)));
    const theirs = await insidePlace(there, () => openDatagramSocket(40_001));
    sockets.push(theirs);
    const outside = new Inbox(theirs);
    theirs.onReceive = outside.take;
    const inside = new Inbox();
    assert.ok(backend.probes !== undefined);
    backend.probes.onReceive = inside.take;
    const us = parseEndpoint("10.99.7.1:51820");
    outside.send(us, utf8("EXNDnobody asked"));
    backend.probes.send(parseEndpoint("10.99.7.2:40001"), utf8("EXNDa question"));
    assert.deepEqual(await outside.next(), { datagram: utf8("EXNDa question"), from: us });
    outside.send(us, utf8("EXNDthe answer"));
    assert.deepEqual((await inside.next()).datagram, utf8("EXNDthe answer"));
    backend.probes.send(parseEndpoint("10.99.7.2:51820"), utf8("EXNDto WireGuard's own port"));
    assert.equal(await pings(there, "100.64.8.1"), true);
    await must(here, "nft delete table inet desk");
  });

  test("a peer that calls from a link-local address is told, and answered", async () => {
    const local = await must(there, "ip -6 -o address show dev wire scope link");
    const ours = await must(here, "ip -6 -o address show dev wire scope link");
    const address = (line: string) => /inet6 (fe80::[0-9a-f:]+)/.exec(line)?.[1] ?? "";
    const { publicKey = "" } = sample(remote, "right").peers[0] ?? {};
    await must(there, `wg set ${remote} peer ${publicKey} endpoint [${address(ours)}%wire]:51820`);
    assert.equal(await pings(there, "100.64.8.1"), true);
    const { peers, warnings } = await backend.state();
    assert.deepEqual([peers[0]?.endpoint, warnings], [parseEndpoint(`[${address(local)}]:51820`), []]);
    assert.equal(await pings(here, "100.64.8.2"), true);
  });

  test("a port of the kernel's choice stays the same while peers change, and probes know it", async () => {
    const anyPort = { ...sample(device), listenPort: 0 };
    await backend.close();
    await backend.set(anyPort);
    const { listenPort, warnings } = await backend.state();
    assert.ok(listenPort > 1_023, `port ${listenPort}`);
    assert.deepEqual(warnings, []);
    await backend.set({ ...anyPort, peers: [...anyPort.peers, ...strangers(1, 1_001)] });
    assert.deepEqual([(await backend.state()).listenPort, (await backend.state()).warnings], [listenPort, []]);
    assert.match(await must(here, "nft list table inet exitnode_mux"), new RegExp(`udp dport != ${listenPort} accept`));
  });
});

/** As on many a desk. */
const ANSWERS_ALONE = `table inet desk {
  chain in {
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname { "lo", "exn-kw-a" } accept
    meta l4proto { 1, 58 } accept
  }
}
`;

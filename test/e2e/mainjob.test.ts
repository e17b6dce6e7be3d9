import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Pings } from "./pathworld.js";
import { eventually, object, program, run, World } from "./world.js";

/**
 * The main job on the real path: a real container made through the lab's API, a laptop in a café that uses it.
 * The tests run in order and leave the world as they found it, one exit node `home` and a laptop through it.
 */

const world = new World();
const CAFE = { ipv4: "198.51.100.88", ipv6: "2001:db8:88:1::50" };
const HOME_IPV4 = "203.0.113.77";
const HOME_NETWORK6 = "2001:db8:77:1:";
let vmid = 0;

const whoami = async (family: 4 | 6, seconds = 30): Promise<string> =>
  (await world.at("laptop", "curl", `-${family}`, "-s", "-m", String(seconds), "http://whoami.lab/")).stdout.trim();
const browses = async (): Promise<boolean> => (await whoami(4, 1)) === HOME_IPV4;
const insideLine = async (...argv: string[]): Promise<string> => (await world.inside(vmid, ...argv)).trim();

before(async () => {
  await world.raiseLab();
  await world.json("appliance", "build");
});
after(() => world.close());

describe("before", () => {
  test("the web sees the café's addresses, and the trace shows the café's way", async () => {
    assert.equal(await whoami(4), CAFE.ipv4);
    assert.equal(await whoami(6), CAFE.ipv6);
    const trace = object(JSON.parse((await world.laptop("trace", "download.lab", "--ipv4", "--json")).stdout));
    assert.equal(trace.exit, null);
    assert.deepEqual(places(trace.hops), ["this network", "this network's ISP", "beyond", "beyond"]);
  });
});

describe("create", () => {
  test("makes an exit node of one core and 512 MiB in an unprivileged container", async () => {
    const made = await world.json("create", "--host", "lab", "--name", "home");
    const exitNode = object(made.exitNode);
    vmid = Number(exitNode.vmid);
    const { name, unprivileged, cores, memoryMiB } = exitNode;
    assert.deepEqual(
      { name, unprivileged, cores, memoryMiB },
      { name: "home", unprivileged: true, cores: 1, memoryMiB: 512 },
    );
    assert.equal(made.changed, true);
  });

  test("again changes nothing and says so; plan finds nothing and exits 0", async () => {
    const again = await world.run(["create", "--host", "lab", "--name", "home"]);
    assert.match(again.stdout, /^nothing to do: /);
    assert.equal((await world.run(["plan", "--host", "lab", "--name", "home"])).code, 0);
  });
});

describe("on a terminal", () => {
  test("create draws its steps with their times and says the same at the end", async () => {
    const argv = [process.execPath, program, "create", "--host", "lab", "--name", "home"].map((word) => `'${word}'`);
    const drawn = await run(["script", "-qec", `stty cols 100 rows 30; ${argv.join(" ")}`, "/dev/null"], {
      env: world.env,
    });
    assert.equal(drawn.code, 0, drawn.stdout);
    assert.match(drawn.stdout, /✔.*look inside.*\d m?s/);
    assert.match(drawn.stdout, /nothing to do: "home"/);
  });
});

describe("inside the container", () => {
  test("it is unprivileged, within its memory limit, and systemd is content", async () => {
    assert.match(await insideLine("cat", "/proc/self/uid_map"), /^0\s+100000\s+65536$/);
    assert.equal(await insideLine("systemctl", "is-system-running", "--wait"), "running");
    const limit = await world.inside(
      vmid,
      "sh",
      "-c",
      "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max",
    );
    assert.equal(limit.trim(), String(512 * 1024 * 1024));
  });

  test("the agent is not root and holds CAP_NET_ADMIN only, the coordinator CAP_NET_BIND_SERVICE only", async () => {
    for (const [unit, capability] of [
      ["exitnode-agent", "0000000000001000"],
      ["exitnode-coordinator", "0000000000000400"],
    ] as const) {
      const pid = await insideLine("systemctl", "show", "-P", "MainPID", unit);
      const status = await world.inside(vmid, "cat", `/proc/${pid}/status`);
      assert.doesNotMatch(status, /^Uid:\s+0\s/m, unit);
      for (const set of ["CapEff", "CapPrm", "CapBnd", "CapAmb"])
        assert.match(status, new RegExp(`^${set}:\\s+${capability}$`, "m"), unit);
      assert.match(status, /^NoNewPrivs:\s+1$/m);
      assert.match(status, /^Seccomp:\s+2$/m);
    }
  });

  test("both families are forwarded, and the nftables tables are ours: the container's and the agent's filter", async () => {
    assert.equal(
      await insideLine("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"),
      "1\n1",
    );
    assert.equal(await insideLine("nft", "list", "tables"), "table inet exitnode\ntable inet exitnode_filter");
  });

  test("only WireGuard, the coordinator, STUN, SSH and the DHCP client listen", async () => {
    const listening = await world.inside(vmid, "ss", "-H", "-lntu");
    const ports = listening
      .trim()
      .split("\n")
      .map((line) => {
        const [protocol = "", , , , local = ""] = line.split(/\s+/);
        return `${protocol}/${local.slice(local.lastIndexOf(":") + 1)}`;
      });
    const expected = new Set(["udp/51820", "udp/3478", "udp/3479", "tcp/443", "tcp/22", "udp/68", "udp/546"]);
    // Sockets that ask the router for a port have one of the kernel's choice; the firewall lets nothing but answers in.
    const asks = (port: string): boolean => port.startsWith("udp/") && Number(port.slice(4)) >= 32_768;
    assert.deepEqual(
      [...new Set(ports)].filter((port) => !expected.has(port) && !asks(port)),
      [],
    );
    for (const port of ["udp/51820", "tcp/443", "tcp/22"]) assert.ok(ports.includes(port), port);
  });

  test("SSH takes keys only", async () => {
    const settings = await world.inside(vmid, "sshd", "-T");
    assert.match(settings, /^passwordauthentication no$/m);
    assert.match(settings, /^kbdinteractiveauthentication no$/m);
    const asked = await world.at(
      "nas",
      "ssh",
      "-v",
      "-o",
      "BatchMode=yes",
      "-o",
      "StrictHostKeyChecking=no",
      "-o",
      "UserKnownHostsFile=/dev/null",
      "-o",
      "PreferredAuthentications=password",
      "root@198.18.77.50",
      "true",
    );
    assert.notEqual(asked.code, 0);
    assert.match(asked.stderr, /Permission denied \(publickey\)|authentications that can continue: publickey$/im);
  });
});

describe("the laptop", () => {
  test("joins, uses the exit, and the web sees the home's addresses on IPv4 and IPv6", async () => {
    await world.laptopUp();
    const used = await world.laptop("use", "home");
    assert.equal(used.code, 0, used.stderr);
    assert.equal(await whoami(4), HOME_IPV4);
    assert.ok((await whoami(6)).startsWith(HOME_NETWORK6));
    const viaCli = await world.run(["lab", "exec", "laptop", "--", "curl", "-4", "-s", "http://whoami.lab/"]);
    assert.equal(viaCli.stdout.trim(), HOME_IPV4);
  });

  test("trace shows tunnel, home and home's ISP, and both pairs of public addresses", async () => {
    const trace = object(JSON.parse((await world.laptop("trace", "download.lab", "--ipv4", "--json")).stdout));
    assert.deepEqual(places(trace.hops), ["tunnel", "exit's network", "exit's ISP", "beyond", "beyond"]);
    const { before, now } = object(trace.public) as Record<string, Record<string, string>>;
    assert.deepEqual(before, CAFE);
    assert.equal(now?.ipv4, HOME_IPV4);
    assert.ok(now?.ipv6?.startsWith(HOME_NETWORK6));
  });

  test("50 MB arrive intact, and the café's uplink sees WireGuard datagrams to the home and nothing else", async () => {
    const capture = spawn(
      "ip",
      // With room for all of it: what a busy machine captures too late is dropped.
      ["netns", "exec", "exn-cafe", "tcpdump", "-B", "65536", "-i", "wan", "-nlq", "-s", "64", "--immediate-mode"],
      { stdio: ["ignore", "pipe", "pipe"] },
    );
    const size = 50 * 1024 * 1024;
    let lines = "";
    let ready = "";
    capture.stdout.on("data", (chunk) => {
      lines += String(chunk);
    });
    capture.stderr.on("data", (chunk) => {
      ready += String(chunk);
    });
    try {
      await eventually("the capture runs", async () => ready.includes("listening on"), 30_000);
      const download = `curl -s -m 300 http://download.lab/bytes/${size} | sha256sum`;
      const got = (await world.at("laptop", "sh", "-c", download)).stdout.slice(0, 64);
      const told = (await world.at("web", "curl", "-s", `http://download.lab/sha256/${size}`)).stdout.trim();
      assert.equal(told.length, 64);
      assert.equal(got, told);
      assert.notEqual(got, createHash("sha256").digest("hex"), "the body is not empty");
    } finally {
      capture.kill("SIGINT");
      await new Promise((resolve) => capture.on("close", resolve));
    }
    const packets = lines.split("\n").filter((line) => / > /.test(line));
    // Datagrams that the kernel cuts later are captured in one piece: their bytes are what counts.
    const carried = packets.reduce((sum, line) => sum + Number(/UDP, length (\d+)/.exec(line)?.[1] ?? 0), 0);
    assert.ok(carried > size, `only ${carried} bytes in ${packets.length} datagrams were captured`);
    // Over whichever family the direct path was found.
    const cafe = String.raw`(198\.51\.100\.88|2001:db8:88:1:[0-9a-f:]+)\.\d+`;
    const home = String.raw`(203\.0\.113\.77|2001:db8:77:1:[0-9a-f:]+)\.\d+`;
    const wireguard = new RegExp(` (${cafe} > ${home}|${home} > ${cafe}): UDP`);
    const others = packets.filter((line) => !wireguard.test(line) && !/ARP|ICMP6, (neighbor|router)/.test(line));
    // The control channel and the relay are TCP to the home's 443; they are the agent's own, and no traffic of the user.
    const unexpected = others.filter((line) => !/\.443[: ]/.test(line));
    assert.deepEqual(unexpected.slice(0, 5), []);
  });

  test("DNS goes through the exit: the café's router is asked nothing", async () => {
    const asked = await world.at("laptop", "sh", "-c", "getent ahostsv4 vps.lab && getent ahostsv4 nas.home");
    assert.match(asked.stdout, /192\.0\.2\.22/);
    // Only the home's resolver knows this name.
    assert.match(asked.stdout, /198\.18\.77\.20/);
  });
});

describe("the home LAN", () => {
  const reaches = async (url: string, place = "laptop", seconds = 2): Promise<boolean> =>
    (await world.at(place, "curl", "-k", "-s", "-m", String(seconds), "-o", "/dev/null", url)).code === 0;

  test("neither the NAS nor the Proxmox API is reached from the tunnel", async () => {
    assert.ok(await reaches("http://198.18.77.20/", "nas", 30));
    assert.equal(await reaches("http://198.18.77.20/"), false);
    assert.equal(await reaches("https://198.18.77.10:8006/"), false);
    assert.equal(await reaches("https://198.18.77.50/healthz"), false);
    assert.equal(await reaches("http://[2001:db8:77:1::20]/"), false);
  });

  test("is reached once it is allowed, and no longer when that is taken back", async () => {
    await world.json("create", "--host", "lab", "--name", "home", "--allow-lan", "198.18.77.0/24");
    await eventually("the NAS answers", () => reaches("http://198.18.77.20/"), 30_000);
    await world.json("create", "--host", "lab", "--name", "home", "--allow-lan", "none");
    assert.equal(await reaches("http://198.18.77.20/"), false);
  });
});

describe("without the coordinator", () => {
  test("the laptop keeps browsing, also through a restart of the exit's agent and of its own", async () => {
    await world.inside(vmid, "systemctl", "stop", "exitnode-coordinator");
    assert.equal(await whoami(4), HOME_IPV4);
    await world.inside(vmid, "systemctl", "restart", "exitnode-agent");
    await eventually("browsing after the exit's agent restarted", browses, 60_000);
    assert.equal((await world.laptop("down")).code, 0);
    assert.equal(await whoami(4), CAFE.ipv4);
    const up = await world.laptop("up");
    assert.equal(up.code, 0, up.stderr);
    await eventually("browsing after the laptop's agent restarted", browses, 60_000);
    await world.inside(vmid, "systemctl", "start", "exitnode-coordinator");
  });
});

describe("the laptop's routing", () => {
  const routing = async (): Promise<string> => {
    const all =
      "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; nft list ruleset; cat /proc/sys/net/ipv4/conf/all/rp_filter";
    // Neighbour and expiry details move by themselves.
    return (await world.at("laptop", "sh", "-c", all)).stdout.replace(/ (expires|error|hoplimit|pref) \S+/g, "");
  };

  test("is as it was after down, and after the agent was killed", async () => {
    const through = await routing();
    assert.equal((await world.laptop("down")).code, 0);
    const plain = await routing();
    assert.notEqual(plain, through);
    assert.doesNotMatch(plain, /5182|exn0|exitnode/);
    assert.equal((await world.laptop("up")).code, 0);
    await eventually("browsing again", browses, 60_000);
    const pid = (await world.at("laptop", "pgrep", "-f", "exitnode-program/agent.js")).stdout.split("\n").at(-2) ?? "";
    const supervisor = (
      await world.at("laptop", "cat", "/var/lib/exitnode-lab/places/laptop/run/supervisor.pid")
    ).stdout.trim();
    process.kill(Number(supervisor), "SIGKILL");
    process.kill(Number(pid), "SIGKILL");
    assert.equal((await world.laptop("down")).code, 0);
    assert.equal(await routing(), plain);
    assert.equal((await world.laptop("up")).code, 0);
    await eventually("browsing again", browses, 60_000);
  });
});

describe("drift", () => {
  const drifted = async (): Promise<string> => {
    const plan = await world.run(["plan", "--host", "lab", "--name", "home"]);
    assert.equal(plan.code, 4, plan.stdout + plan.stderr);
    return plan.stdout;
  };

  test("a sysctl, a firewall and a memory size changed by hand are named, and put right by create", async () => {
    await world.inside(vmid, "sysctl", "-q", "-w", "net.ipv4.ip_forward=0");
    assert.match(await drifted(), /net\.ipv4\.ip_forward/);
    await world.inside(vmid, "nft", "add", "rule", "inet", "exitnode", "forward", "accept");
    assert.match(await drifted(), /nft/i);
    await world.at(
      "pve1",
      "sed",
      "-i",
      "s/^memory: 512$/memory: 768/",
      `/var/lib/exitnode-lab/pve/guests/${vmid}.conf`,
    );
    assert.match(await drifted(), /768/);
    await world.json("create", "--host", "lab", "--name", "home");
    assert.equal((await world.run(["plan", "--host", "lab", "--name", "home"])).code, 0);
    assert.equal(await insideLine("cat", "/proc/sys/net/ipv4/ip_forward"), "1");
    await eventually("browsing again", browses, 60_000);
  });
});

describe("revocation", () => {
  test("stops the laptop's traffic within a second", async () => {
    assert.equal(await whoami(4), HOME_IPV4);
    const pings = new Pings("100.64.0.1");
    try {
      await pings.until((replies) => replies.length > 5, 30_000);
      await world.json("device", "revoke", "laptop");
      const revokedAt = performance.now();
      assert.notEqual((await world.at("laptop", "curl", "-4", "-s", "-m", "2", "http://whoami.lab/")).code, 0);
      const last = pings.replies.at(-1) ?? revokedAt;
      assert.ok(last < revokedAt + 1_000, `${last - revokedAt} ms`);
    } finally {
      await pings.stop();
    }
    await world.laptop("down", "--forget");
    assert.equal(await whoami(4), CAFE.ipv4);
  });
});

describe("destroy", () => {
  test("leaves neither container nor record, and the name is free again", async () => {
    await world.json("destroy", "home", "--host", "lab", "--yes");
    const { exitNodes } = await world.json("list");
    assert.deepEqual(exitNodes, []);
    const status = await world.json("lab", "status");
    assert.deepEqual(status.containers, []);
  });
});

function places(hops: unknown): string[] {
  assert.ok(Array.isArray(hops));
  return hops.map((hop) => String(object(hop).where));
}

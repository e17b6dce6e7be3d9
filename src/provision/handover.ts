import { Failure } from "../kit/failure.js";
import { shellWord } from "../kit/shell.js";
import type { Millis } from "../kit/time.js";
import type { Exec } from "../sys/exec.js";
import type { Ssh } from "../sys/ssh.js";
import { ADDRESS_WAIT_MS, applyStep } from "./apply.js";
import { checkHealth } from "./health.js";
import { addressesOf } from "./observe.js";
import { ownOf } from "./save.js";
import { connection, lookAtHost, type Session } from "./session.js";
import { addressOf, type View } from "./view.js";

/**
 * What goes from one container to the one that takes its place: the agent's keys and map, the coordinator's store, and
 * by which a DHCP server knows it (RFC 4361: the client identifier counts, not the network card's address).
 */
const STATE = ["var/lib/exitnode", "var/lib/exitnode-coordinator", "var/lib/dhcpcd"];
const DAEMONS = (ownCoordinator: boolean): string =>
  ownCoordinator ? "exitnode-coordinator exitnode-agent" : "exitnode-agent";
const TRANSFER_TIMEOUT_MS: Millis = 60_000;
/** How often the new container looks whether it is its turn, and for how long. */
const TURN_POLL_SECONDS = 0.1;
const TURN_WAIT_SECONDS = 120;
const ADDRESS_POLL_MS: Millis = 200;

/**
 * The coordinator stands still from here on, for a store that is written to cannot be taken along; traffic goes on.
 */
export async function handOver(from: Ssh, to: Ssh, ownCoordinator: boolean): Promise<void> {
  if (ownCoordinator) await succeed(from, ["systemctl", "stop", "exitnode-coordinator.service"]);
  // Owners go by name: the users have other numbers there.
  const pack = `cd / && tar -cf - $(ls -d ${STATE.join(" ")} 2>/dev/null) | base64 -w0`;
  await succeed(to, ["sh", "-c", "base64 -d | tar -C / -xpf -"], await succeed(from, ["sh", "-c", pack]));
}

/** From its turn on it does the rest by itself: nobody can reach it while its address changes. */
export async function armNext(to: Ssh, net0: string, hostname: string, ownCoordinator: boolean): Promise<void> {
  const mac = (/hwaddr=([0-9A-Fa-f:]+)/.exec(net0)?.[1] ?? "").toLowerCase();
  const units = DAEMONS(ownCoordinator);
  const script = [
    `systemctl enable -q ${units}`,
    // The client that runs here writes its own lease there once more when the network card's address changes.
    "rm -rf /var/lib/dhcpcd.next; cp -a /var/lib/dhcpcd /var/lib/dhcpcd.next",
    `turns=${Math.round(TURN_WAIT_SECONDS / TURN_POLL_SECONDS)}`,
    `until [ "$(cat /sys/class/net/eth0/address 2>/dev/null)" = ${shellWord(mac)} ]; do`,
    `  turns=$((turns - 1)); [ $turns -gt 0 ] || exit 1; sleep ${TURN_POLL_SECONDS}`,
    "done",
    `systemctl restart --no-block ${units}`,
    // By the service, not by ifup: a DHCP client that this script began would end with it.
    "systemctl stop networking.service; ip address flush dev eth0",
    "rm -rf /var/lib/dhcpcd; mv /var/lib/dhcpcd.next /var/lib/dhcpcd",
    // Some routers keep an address for a name.
    `echo ${shellWord(hostname)} > /etc/hostname; hostname -F /etc/hostname`,
    "systemctl start networking.service",
  ].join("\n");
  await succeed(to, [
    // The script's variables are the shell's, and not systemd's.
    ...["systemd-run", "--quiet", "--collect", "--expand-environment=no", "--unit=exitnode-turn"],
    ...["sh", "-c", script],
  ]);
}

/** Waits until it has the address of the one before, and works there. */
export async function checkNext(
  session: Session,
  next: View,
  old: View,
  version: string,
  note: (words: string) => void,
): Promise<View> {
  const { clock, host, signal } = session.parts;
  const wanted = addressOf(old);
  const startedAt = clock.now();
  const container = ownOf(next);
  for (;;) {
    const addresses = await addressesOf(host, container);
    if (wanted !== undefined && addresses.includes(wanted)) break;
    note(`it has ${addresses.join(", ") || "no address"} yet`);
    if (clock.now() - startedAt >= ADDRESS_WAIT_MS / 6)
      throw new Failure("address-missing", `the new container did not get ${wanted}; it has ${addresses.join(", ")}`, {
        advice: "does the DHCP server give addresses by something else than the network card's address?",
      });
    await clock.sleep(ADDRESS_POLL_MS, signal);
  }
  const seen = await lookAtHost(session, container);
  const { save } = ownOf(old).identity;
  const placed: View = {
    ...seen,
    hostKey: next.hostKey,
    addresses: old.addresses,
    // The tunnel is tried when it worked before.
    container: { ...ownOf(seen), identity: { ...ownOf(seen).identity, save } },
  };
  const checked = await checkHealth(session, placed, version, note);
  return { ...checked, container: ownOf(seen), hostKey: next.hostKey };
}

/** The old container does again what it did. */
export async function takeBack(session: Session): Promise<void> {
  let view = await lookAtHost(session);
  for (const step of ["wait-address", "look-inside"] as const)
    view = await applyStep(session, view, { do: step }, () => undefined);
  if (!view.ownCoordinator) return;
  await succeed(await connection(session, view), ["systemctl", "start", "exitnode-coordinator.service"]);
}

async function succeed(exec: Exec, argv: readonly string[], input?: string): Promise<string> {
  const ran = await exec.run(argv, { timeoutMs: TRANSFER_TIMEOUT_MS, ...(input === undefined ? {} : { input }) });
  if (ran.exitCode === 0) return ran.stdout;
  throw new Failure(
    "hand-over-failed",
    `${argv[0]} in the container exited ${ran.exitCode}: ${ran.stderr.trim().slice(-300)}`,
    {
      advice: "run it again",
    },
  );
}

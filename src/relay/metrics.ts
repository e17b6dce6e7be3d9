import type { StunCounters } from "./stunserver.js";
import type { Switchboard } from "./switchboard.js";

/** The relay's figures in Prometheus' text format, version 0.0.4. No key and no address is among them. */
export function renderMetrics(
  switchboard: Switchboard,
  now: { readonly connections: number; readonly lobby: number; readonly stun: StunCounters | undefined },
): string {
  const { counters } = switchboard;
  const lines: string[] = [];
  const metric = (
    name: string,
    kind: "counter" | "gauge",
    help: string,
    values: readonly (readonly [labels: string, value: number])[],
  ): void => {
    lines.push(`# HELP exitnode_relay_${name} ${help}`, `# TYPE exitnode_relay_${name} ${kind}`);
    for (const [labels, value] of values) lines.push(`exitnode_relay_${name}${labels} ${value}`);
  };
  const one = (value: number): [string, number][] => [["", value]];
  const by = (label: string, values: Iterable<readonly [string, number]>): [string, number][] =>
    [...values].map(([word, value]) => [`{${label}="${word}"}`, value]);
  metric("connections", "gauge", "Open connections, logged in or not.", one(now.connections));
  metric("lobby", "gauge", "Connections that have not logged in.", one(now.lobby));
  metric("devices", "gauge", "Connections that are logged in.", one(switchboard.members.size));
  metric("queued_bytes", "gauge", "Bytes that wait for devices to read.", one(switchboard.queuedBytes));
  metric("logins_total", "counter", "Accepted logins.", one(counters.logins));
  metric("refused_total", "counter", "Refused logins and renewals.", by("reason", counters.refused));
  metric("cut_total", "counter", "Ended connections of devices.", by("reason", counters.cut));
  metric("forwarded_frames_total", "counter", "Datagrams taken for forwarding.", one(counters.forwardedFrames));
  metric("forwarded_bytes_total", "counter", "Bytes of those frames.", one(counters.forwardedBytes));
  metric("probe_frames_total", "counter", "Probes among them.", one(counters.probeFrames));
  metric(
    "dropped_frames_total",
    "counter",
    "Frames dropped from full queues.",
    by("queue", Object.entries(counters.dropped)),
  );
  metric(
    "unknown_destination_total",
    "counter",
    "Datagrams for a key that is not here.",
    one(counters.unknownDestination),
  );
  metric("malformed_frames_total", "counter", "Frames passed over.", one(counters.malformed));
  metric("oversized_frames_total", "counter", "Frames that ended their connection.", one(counters.oversized));
  metric("rate_holds_total", "counter", "Times a device was held to its rate.", one(counters.rateHolds));
  metric("revocations_total", "counter", "Revocations heard of.", one(counters.revocations));
  metric("dial_backs_total", "counter", "Port mappings tried on request.", one(counters.dialBacks));
  if (now.stun !== undefined) {
    metric("stun_answers_total", "counter", "STUN requests answered.", one(now.stun.answered));
    metric(
      "stun_passed_over_total",
      "counter",
      "Datagrams on STUN's ports without an answer.",
      one(now.stun.passedOver),
    );
  }
  return `${lines.join("\n")}\n`;
}

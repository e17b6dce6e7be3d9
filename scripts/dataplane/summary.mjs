// From samples to figures. Ratios are taken within a round, of measurements that follow one another, and their median
// counts: the machine's other work then weighs on both alike.
export const median = (list) => {
  const sorted = [...list].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};
const round = (number, digits = 2) => Number(number.toFixed(digits));
const add = (lists, field) => lists[0].map((_, i) => lists.reduce((sum, list) => sum + list[i][field], 0));
const ratio = (of, to) => round(median(of.map((value, i) => value / to[i])));

/**
 * Rates of several directions added, round by round. `perCpuSecond` is what a second of the node's CPU time moved,
 * ours over the other's: on a machine too busy to give a node its share it still says what the node can do.
 */
function rates(measures, ours, other, names = ["ours", "baseline"]) {
  const sums = (contestant, field) =>
    add(
      measures.map((measure) => measure[contestant]),
      field,
    );
  const mbit = [ours, other].map((contestant) => sums(contestant, "mbit"));
  const perCpu = [ours, other].map((contestant) =>
    sums(contestant, "bytes").map((bytes, i) => bytes / sums(contestant, "cpuSeconds")[i]),
  );
  return {
    ratio: ratio(mbit[0], mbit[1]),
    perCpuSecond: ratio(perCpu[0], perCpu[1]),
    mbit: Object.fromEntries(names.map((name, i) => [name, Math.round(median(mbit[i]))])),
  };
}

const GIGA = 1e9;
const both = (value) => ({ ours: value("ours"), baseline: value("baseline") });

/** User and system time of the node, for what iperf3's receivers got: TCP in both directions, at the limit. */
function cpuSecondsPerGB(measures, contestant) {
  const runs = measures.flatMap((measure) => measure[contestant]);
  const spent = runs.reduce((sum, run) => sum + run.cpuSeconds, 0);
  return round((spent * GIGA) / runs.reduce((sum, run) => sum + run.bytes, 0));
}

/** The figures of what was measured; a measure that was left out has no field. */
export function summarize(samples, udpOfferedMbit) {
  const { up, down, ping } = samples;
  const result = {};
  if (up !== undefined) result.up = rates([up], "ours", "baseline");
  if (down !== undefined) result.down = rates([down], "ours", "baseline");
  const udp = [samples["udp1400 up"], samples["udp1400 down"]];
  if (udp[0] !== undefined)
    result.udp1400 = {
      ...rates(udp, "ours", "baseline"),
      up: rates([udp[0]], "ours", "baseline"),
      down: rates([udp[1]], "ours", "baseline"),
      offeredMbit: udpOfferedMbit,
      leastOfferedMbit: Math.round(
        Math.min(
          ...udp
            .flatMap(Object.values)
            .flat()
            .map((run) => run.offeredMbit),
        ),
      ),
    };
  const tcp = [up, down].filter((measure) => measure !== undefined);
  if (tcp.length > 0) result.cpuSecondsPerGB = both((name) => cpuSecondsPerGB(tcp, name));
  const loads = [...tcp, ...udp.filter((measure) => measure !== undefined)];
  if (loads.length > 0)
    result.rssMiB = both((name) =>
      Math.round(Math.max(...loads.flatMap((load) => load[name]).map((run) => run.rssMiB))),
    );
  if (ping !== undefined)
    result.pingMs = {
      ...both((name) => round(median(ping[name].flat()), 3)),
      direct: round(median(ping.direct.flat()), 3),
    };
  const peers = [samples["peers100 up"], samples["peers100 down"]];
  if (peers[0] !== undefined) {
    const { ratio: ratioToOnePeer, ...rest } = rates(peers, "ours100", "ours", ["hundred", "one"]);
    result.peers100 = { ratioToOnePeer, ...rest };
  }
  return result;
}

/** For a person: one line a figure. */
export function renderTable(result) {
  const rows = [["", "ours", "baseline", "ratio", "per CPU second"]];
  const line = (title, { mbit, ratio: share, perCpuSecond }) =>
    rows.push([title, `${mbit.ours} Mbit/s`, `${mbit.baseline} Mbit/s`, share.toFixed(2), perCpuSecond.toFixed(2)]);
  if (result.up) line("TCP up", result.up);
  if (result.down) line("TCP down", result.down);
  if (result.udp1400) {
    line("1400-byte UDP up", result.udp1400.up);
    line("1400-byte UDP down", result.udp1400.down);
    line("1400-byte UDP, both", result.udp1400);
  }
  for (const [title, field, unit] of [
    ["CPU per GB", "cpuSecondsPerGB", "s"],
    ["resident", "rssMiB", "MiB"],
    ["round trip", "pingMs", "ms"],
  ]) {
    const value = result[field];
    if (value)
      rows.push([
        title,
        `${value.ours} ${unit}`,
        `${value.baseline} ${unit}`,
        (value.ours / value.baseline).toFixed(2),
        "",
      ]);
  }
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  const text = rows.map((row) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join("  ")
      .trimEnd(),
  );
  const peers = result.peers100;
  if (peers)
    text.push(
      `100 peers: ${peers.mbit.hundred} of ${peers.mbit.one} Mbit/s, up and down together, ratio ${peers.ratioToOnePeer}`,
    );
  return `baseline: ${result.baseline}; ${result.rounds} rounds of ${result.secondsEach} s, ${result.sharePercent} % of a core\n${text.join("\n")}\n`;
}

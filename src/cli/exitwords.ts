import { formatDuration } from "../kit/time.js";
import type { AgentStatus } from "../wire/agentsocket.js";
import { formatRoundTrip } from "./table.js";

/** What there is to know of the exit in use among several, the same words in every command. */

type Exit = NonNullable<AgentStatus["exit"]>;

/** A line each: why this one is used, when another will be, and how they all do; none where one alone was asked for. */
export function describeExits(exit: Exit): string[] {
  const { exits, switched, returns } = exit;
  if (exits === undefined) return [];
  const silent = exits.every(({ state }) => state !== "answers");
  return [
    ...(switched === undefined ? [] : [`since ${formatDuration(switched.agoMs)}: ${because(switched, exit.name)}`]),
    ...(returns === undefined ? [] : [goesBack(returns)]),
    ...(silent ? ["none of them answers: until one does, nothing leaves this machine"] : []),
    exits.map(one).join(", "),
  ];
}

function because({ from, why }: NonNullable<Exit["switched"]>, name: string): string {
  switch (why) {
    case "silent":
      return `${from} stopped answering`;
    case "cut-off":
      return `${from} answers, but the Internet behind it does not`;
    case "gone":
      return `${from} is no longer in the network, or not approved as an exit`;
    case "back":
      return `${name} answers again`;
    case "nearer":
      return `${name} is nearer than ${from}`;
  }
}

function goesBack({ to, inMs, holdMs }: NonNullable<Exit["returns"]>): string {
  if (inMs === undefined) return `back to ${to} once it has answered for ${formatDuration(holdMs)}`;
  return `back to ${to} in ${formatDuration(inMs)}, if it goes on answering`;
}

function one({ name, state, roundTripMs }: NonNullable<Exit["exits"]>[number]): string {
  const how = { answers: "answers", silent: "does not answer", unknown: "not heard of yet" }[state];
  return state === "answers" && roundTripMs !== undefined
    ? `${name} ${how} in ${formatRoundTrip(roundTripMs)}`
    : `${name} ${how}`;
}

/** Whose a device is, in a table's cell: a person's login or what its tags say; empty: the network's own. */
export const ownerCell = ({
  user,
  tags = [],
}: {
  user?: string | undefined;
  tags?: readonly string[] | undefined;
}): string => (tags.length > 0 ? tags.map((tag) => `tag:${tag}`).join(" ") : (user ?? ""));

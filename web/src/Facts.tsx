/** Names and values; what has no value is left out. */
export function Facts({ rows }: { rows: [string, string | number | undefined][] }) {
  return (
    <dl>
      {rows
        .filter(([, value]) => value !== undefined && value !== "")
        .map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
    </dl>
  );
}

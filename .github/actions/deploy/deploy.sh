#!/usr/bin/env bash
# What the action does, for any CI: everything it needs is in the environment, see action.yml.
set -euo pipefail

sequin="${SEQUIN:-sequin}"
file="${SEQUIN_FILE:-sequin.yaml}"
mode="${SEQUIN_MODE:-}"
if [ -z "$mode" ]; then
  if [ -n "${PULL_REQUEST:-}" ]; then mode=plan; else mode=apply; fi
fi
options=()
if [ -n "${SEQUIN_OWNER:-}" ]; then options+=(--owner "$SEQUIN_OWNER"); fi
if [ "${SEQUIN_PRUNE:-false}" = true ]; then options+=(--prune); fi
if [ -n "${GITHUB_ACTOR:-}" ]; then options+=(--by "$GITHUB_ACTOR"); fi
if [ -n "${GITHUB_SHA:-}" ]; then options+=(--reason "commit $GITHUB_SHA"); fi

for directory in ${SEQUIN_PLUGIN_TESTS:-}; do
  "$sequin" plugin test "$directory"
done

# The engine builds and checks all of it for the plan; nothing is written.
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
status=0
"$sequin" config plan "$file" "${options[@]}" --detailed-exitcode > "$work/plan" || status=$?
case "$status" in
  0) changes=false ;;
  2) changes=true ;;
  *) exit "$status" ;;
esac
cat "$work/plan"
hash="$(sed -n 's/^Plan \([0-9a-f]*\):.*/\1/p' "$work/plan")"
if [ -n "${GITHUB_OUTPUT:-}" ]; then
  printf 'changes=%s\nplan=%s\n' "$changes" "$hash" >> "$GITHUB_OUTPUT"
fi
{
  printf '**sequin** %s `%s`\n\n' "$mode" "$file"
  # A longer fence than any in the plan, which holds names and values of the file.
  printf '``````text\n'
  head -c 60000 "$work/plan"
  printf '``````\n'
} > "$work/comment"
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat "$work/comment" >> "$GITHUB_STEP_SUMMARY"; fi

case "$mode" in
  plan)
    if [ -n "${PULL_REQUEST:-}" ] && [ -n "${GH_TOKEN:-}" ]; then
      gh pr comment "$PULL_REQUEST" --edit-last --create-if-none --body-file "$work/comment"
    fi
    ;;
  apply)
    # The plan that was shown, or nothing.
    if [ "$changes" = true ]; then
      "$sequin" config apply "$file" "${options[@]}" --plan "$hash"
    fi
    ;;
  *)
    echo "SEQUIN_MODE is plan or apply, not $mode" >&2
    exit 64
    ;;
esac

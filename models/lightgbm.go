package models

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Limits of a model's text. They are checked before anything of that size is allocated.
const (
	maxModelBytes = 256 << 20
	maxFeatures   = 4096
	maxNameBytes  = 256
	maxTrees      = 10_000
	maxLeaves     = 65_536 // of one tree
	maxDepth      = 1024
)

// parsed is what a model's text says.
type parsed struct {
	names   []string
	trees   []tree
	version string // v2, v3 or v4
	// versionAt is where the version's value stands in the text.
	versionAt int
}

// reader walks a text line by line; line counts from 1 and is the one last read.
type reader struct {
	text []byte
	at   int
	line int
}

func (r *reader) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %w", r.line, fmt.Errorf(format, args...))
}

// next returns the next line without its end; every line of the part we read must have one.
func (r *reader) next() (string, error) {
	r.line++
	end := bytes.IndexByte(r.text[r.at:], '\n')
	if end < 0 {
		return "", r.errorf("the text ends before \"end of trees\"")
	}
	line := r.text[r.at : r.at+end]
	r.at += end + 1
	for _, c := range line {
		if c < ' ' || c > '~' {
			return "", r.errorf("byte %#02x: want printable ASCII and line feeds only", c)
		}
	}
	return string(line), nil
}

// pairs reads lines of key=value up to an empty one. Keys that are not among the known ones, or come twice, are errors.
func (r *reader) pairs(known map[string]bool, into map[string]pair) error {
	for {
		line, err := r.next()
		if err != nil || line == "" {
			return err
		}
		key, value, ok := strings.Cut(line, "=")
		switch _, twice := into[key]; {
		case line == "average_output":
			return r.errorf("average_output (a random forest) is not supported")
		case !ok || strings.Contains(value, "="):
			return r.errorf("%.40q is not key=value", line)
		case !known[key]:
			return r.errorf("unknown key %.40q", key)
		case twice:
			return r.errorf("%s is given twice", key)
		}
		into[key] = pair{value, r.line, r.at - 1 - len(value)}
	}
}

// pair is a value and where it stands.
type pair struct {
	value string
	line  int
	at    int
}

func (p pair) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %w", p.line, fmt.Errorf(format, args...))
}

func set(names string) map[string]bool {
	all := map[string]bool{}
	for name := range strings.FieldsSeq(names) {
		all[name] = true
	}
	return all
}

var (
	headerKeys = set("version num_class num_tree_per_iteration label_index max_feature_idx objective feature_names " +
		"monotone_constraints feature_infos tree_sizes")
	treeKeys = set("num_leaves num_cat split_feature split_gain threshold decision_type left_child right_child leaf_value leaf_weight " +
		"leaf_count internal_value internal_weight internal_count cat_boundaries cat_threshold is_linear shrinkage")
)

// parseLightGBM reads LightGBM's text format, versions v2 to v4, of one binary objective. Nothing is guessed: what
// package leaves would misread, and what LightGBM does not write, is an error with its line. What follows "end of trees"
// (importances, parameters) does not take part in scoring and is not read.
func parseLightGBM(text []byte) (*parsed, error) {
	if len(text) > maxModelBytes {
		return nil, fmt.Errorf("a text of %d bytes is over the limit of %d", len(text), maxModelBytes)
	}
	r := &reader{text: text}
	if first, err := r.next(); err != nil {
		return nil, err
	} else if first != "tree" {
		return nil, r.errorf("want \"tree\": this is no LightGBM model")
	}
	header := map[string]pair{}
	if err := r.pairs(headerKeys, header); err != nil {
		return nil, err
	}
	p, sizes, err := parseHeader(header)
	if err != nil {
		return nil, err
	}
	p.trees = make([]tree, len(sizes))
	keys := make(map[string]pair, len(treeKeys))
	for i, size := range sizes {
		begin := r.at
		if err := r.readTree(i, len(p.names), keys, &p.trees[i]); err != nil {
			return nil, fmt.Errorf("tree %d: %w", i, err)
		}
		if got := r.at - begin; got != size {
			return nil, fmt.Errorf("tree %d: %w", i, r.errorf("it takes %d bytes, tree_sizes says %d", got, size))
		}
	}
	if last, err := r.next(); err != nil {
		return nil, err
	} else if last != "end of trees" {
		return nil, r.errorf("want \"end of trees\" after %d trees", len(sizes))
	}
	return p, nil
}

func parseHeader(header map[string]pair) (*parsed, []int, error) {
	for _, key := range []string{"version", "num_class", "num_tree_per_iteration", "max_feature_idx", "objective", "feature_names",
		"feature_infos", "tree_sizes"} {
		if _, ok := header[key]; !ok {
			return nil, nil, fmt.Errorf("the header has no %s", key)
		}
	}
	version := header["version"]
	if v := version.value; v != "v2" && v != "v3" && v != "v4" {
		return nil, nil, version.errorf("version %.20q: want v2, v3 or v4", v)
	}
	for _, fixed := range [][2]string{{"num_class", "1"}, {"num_tree_per_iteration", "1"}, {"objective", "binary sigmoid:1"}} {
		if got := header[fixed[0]]; got.value != fixed[1] {
			return nil, nil, got.errorf("%s=%.60s: only %s is supported", fixed[0], got.value, fixed[1])
		}
	}
	last, err := parseInt(header["max_feature_idx"], 1, maxFeatures-1)
	if err != nil {
		return nil, nil, fmt.Errorf("max_feature_idx: %w", err)
	}
	p := &parsed{version: version.value, versionAt: version.at}
	if p.names, err = parseNames(header["feature_names"], last+1); err != nil {
		return nil, nil, err
	}
	if infos := header["feature_infos"]; strings.Count(infos.value, " ") != last {
		return nil, nil, infos.errorf("want %d feature_infos", last+1)
	}
	listed := header["tree_sizes"]
	count := strings.Count(listed.value, " ") + 1
	if count > maxTrees {
		return nil, nil, listed.errorf("%d trees are over the limit of %d", count, maxTrees)
	}
	sizes := make([]int, count)
	if err := fill(sizes, listed, func(s string) (int, bool) { return smallInt(s, 1, maxModelBytes) }); err != nil {
		return nil, nil, fmt.Errorf("tree_sizes: %w", err)
	}
	return p, sizes, nil
}

func parseNames(p pair, count int) ([]string, error) {
	if strings.Count(p.value, " ") != count-1 {
		return nil, p.errorf("want %d feature_names", count)
	}
	names := strings.Split(p.value, " ")
	seen := make(map[string]bool, count)
	for _, name := range names {
		if name == "" || len(name) > maxNameBytes || strings.ContainsFunc(name, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_'
		}) {
			return nil, p.errorf("feature name %.60q: want letters, digits and _", name)
		}
		if seen[name] {
			return nil, p.errorf("feature %s is named twice", name)
		}
		seen[name] = true
	}
	return names, nil
}

// readTree reads the block of one tree: its number, its keys, an empty line and the empty lines that follow.
func (r *reader) readTree(index, features int, keys map[string]pair, t *tree) error {
	if line, err := r.next(); err != nil {
		return err
	} else if line != "Tree="+strconv.Itoa(index) {
		return r.errorf("want Tree=%d", index)
	}
	clear(keys)
	if err := r.pairs(treeKeys, keys); err != nil {
		return err
	}
	for r.at < len(r.text) && r.text[r.at] == '\n' {
		r.at++
		r.line++
	}
	if linear, ok := keys["is_linear"]; ok && linear.value != "0" {
		return linear.errorf("is_linear=%.20s: linear trees are not supported", linear.value)
	}
	for _, key := range []string{"num_leaves", "num_cat", "split_feature", "threshold", "decision_type", "left_child", "right_child",
		"leaf_value", "leaf_count", "internal_count"} {
		if _, ok := keys[key]; !ok {
			return r.errorf("the tree has no %s", key)
		}
	}
	leaves, err := parseInt(keys["num_leaves"], 1, maxLeaves)
	if err != nil {
		return fmt.Errorf("num_leaves: %w", err)
	}
	if err := parseTree(keys, leaves, features, t); err != nil {
		return err
	}
	return t.check(keys["left_child"])
}

// parseTree fills the tree's arrays. fill refuses lists of another length before anything is allocated for them.
func parseTree(keys map[string]pair, leaves, features int, t *tree) error {
	if len(keys["leaf_value"].value) < 2*leaves-1 {
		return keys["leaf_value"].errorf("want %d values of leaf_value", leaves)
	}
	t.leafValue = make([]float64, leaves)
	if err := fill(t.leafValue, keys["leaf_value"], func(s string) (float64, bool) {
		v, ok := float(s)
		return v, ok && !math.IsInf(v, 0)
	}); err != nil {
		return fmt.Errorf("leaf_value: %w", err)
	}
	if leaves == 1 {
		for _, key := range []string{"split_feature", "threshold", "decision_type", "left_child", "right_child", "internal_count"} {
			if keys[key].value != "" {
				return keys[key].errorf("a tree of one leaf has no %s", key)
			}
		}
		if keys["num_cat"].value != "0" {
			return keys["num_cat"].errorf("a tree of one leaf has no categories")
		}
		return nil
	}
	t.nodes = make([]node, leaves-1)
	t.leafCount = make([]float64, leaves)
	if err := fill(t.leafCount, keys["leaf_count"], count); err != nil {
		return fmt.Errorf("leaf_count: %w", err)
	}
	child := func(s string) (int32, bool) {
		v, ok := smallInt(s, -leaves, leaves-2)
		return int32(v), ok
	}
	categorical, err := parseInt(keys["num_cat"], 0, leaves-1)
	if err != nil {
		return fmt.Errorf("num_cat: %w", err)
	}
	for _, column := range []struct {
		key   string
		parse func(n *node, s string) bool
	}{
		{"split_feature", func(n *node, s string) bool {
			v, ok := smallInt(s, 0, features-1)
			n.feature = int32(v)
			return ok
		}},
		{"decision_type", func(n *node, s string) bool {
			v, ok := smallInt(s, 0, 15)
			n.decision = uint8(v)
			return ok && n.missing() <= missingNaN
		}},
		{"threshold", func(n *node, s string) (ok bool) {
			n.threshold, ok = float(s)
			return ok && !math.IsInf(n.threshold, -1)
		}},
		{"left_child", func(n *node, s string) (ok bool) { n.left, ok = child(s); return ok }},
		{"right_child", func(n *node, s string) (ok bool) { n.right, ok = child(s); return ok }},
		{"internal_count", func(n *node, s string) (ok bool) { n.count, ok = count(s); return ok }},
		{"split_gain", func(n *node, s string) (ok bool) { n.gain, ok = float(s); return ok && isFinite(n.gain) }},
	} {
		if _, given := keys[column.key]; !given && column.key == "split_gain" { // scoring does without
			continue
		}
		i := 0
		if err := each(keys[column.key], len(t.nodes), func(s string) bool {
			i++
			return column.parse(&t.nodes[i-1], s)
		}); err != nil {
			return fmt.Errorf("%s: %w", column.key, err)
		}
	}
	return t.parseCategories(keys, categorical)
}

// parseCategories hands each categorical node its set: the node's threshold is the set's index.
func (t *tree) parseCategories(keys map[string]pair, sets int) error {
	where := keys["threshold"]
	used := 0
	for i := range t.nodes {
		if n := &t.nodes[i]; n.decision&isCategorical != 0 {
			used++
			if n.threshold != math.Trunc(n.threshold) || n.threshold < 0 || n.threshold >= float64(sets) {
				return where.errorf("node %d: there is no set of categories %v among %d", i, n.threshold, sets)
			}
		}
	}
	if used != sets {
		return keys["num_cat"].errorf("num_cat=%d for %d categorical nodes", sets, used)
	}
	boundaries, ok := keys["cat_boundaries"]
	words, ok2 := keys["cat_threshold"]
	if sets == 0 {
		if ok || ok2 {
			return where.errorf("sets of categories without a categorical node")
		}
		return nil
	}
	if !ok || !ok2 {
		return where.errorf("num_cat=%d without cat_boundaries and cat_threshold", sets)
	}
	total := strings.Count(words.value, " ") + 1
	ends := make([]int, sets+1)
	if err := fill(ends, boundaries, func(s string) (int, bool) { return smallInt(s, 0, total) }); err != nil {
		return fmt.Errorf("cat_boundaries: %w", err)
	}
	all := make([]uint32, total)
	if err := fill(all, words, func(s string) (uint32, bool) {
		if !isDecimal(s) {
			return 0, false
		}
		v, err := strconv.ParseUint(s, 10, 32)
		return uint32(v), err == nil
	}); err != nil {
		return fmt.Errorf("cat_threshold: %w", err)
	}
	if ends[0] != 0 || ends[sets] != total {
		return boundaries.errorf("cat_boundaries: want 0 to %d", total)
	}
	for s := range sets {
		if ends[s] >= ends[s+1] {
			return boundaries.errorf("cat_boundaries: set %d is empty or begins after its end", s)
		}
		members := 0
		for _, w := range all[ends[s]:ends[s+1]] {
			members += bits.OnesCount32(w)
		}
		if members == 0 {
			return words.errorf("cat_threshold: set %d has no category", s)
		}
	}
	for i := range t.nodes {
		if n := &t.nodes[i]; n.decision&isCategorical != 0 {
			s := int(n.threshold)
			n.categories = all[ends[s]:ends[s+1]:ends[s+1]]
		}
	}
	return nil
}

// each parses exactly n values between single spaces.
func each(p pair, n int, parse func(string) bool) error {
	if got := strings.Count(p.value, " ") + 1; got != n {
		return p.errorf("%d values instead of %d", got, n)
	}
	i := 0
	for s := range strings.SplitSeq(p.value, " ") {
		if !parse(s) {
			return p.errorf("value %d, %.40q, is not allowed here", i, s)
		}
		i++
	}
	return nil
}

func fill[T any](into []T, p pair, parse func(string) (T, bool)) error {
	i := 0
	return each(p, len(into), func(s string) (ok bool) {
		into[i], ok = parse(s)
		i++
		return ok
	})
}

// parseInt parses a value that is one integer.
func parseInt(p pair, low, high int) (int, error) {
	v, ok := smallInt(p.value, low, high)
	if !ok {
		return 0, p.errorf("%.40q is no integer from %d to %d", p.value, low, high)
	}
	return v, nil
}

// smallInt parses a plain decimal integer: no plus, no leading zero, no underscore.
func smallInt(s string, low, high int) (int, bool) {
	if !isDecimal(strings.TrimPrefix(s, "-")) || s == "-0" {
		return 0, false
	}
	v, err := strconv.Atoi(s)
	return v, err == nil && v >= low && v <= high
}

func isDecimal(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && (s[0] != '0' || len(s) == 1)
}

// count parses a number of rows.
func count(s string) (float64, bool) {
	v, ok := smallInt(s, 0, math.MaxInt32)
	return float64(v), ok
}

// float parses a decimal number or an infinity; strconv would also take hexadecimal, underscores and NaN.
func float(s string) (float64, bool) {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && c != '.' && c != 'e' && c != '+' && c != '-' {
			if s != "inf" && s != "-inf" {
				return 0, false
			}
		}
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil
}

package vaglio_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows are the imports among our own packages; a package may import what stands behind it, and no other.
var arrows = map[string][]string{
	".":                             {},
	"native":                        {},
	"document":                      {"."},
	"files":                         {},
	"files/filestest":               {},
	"history/embedded/embeddedtest": {},
	"parquet":                       {"."},
	"expression":                    {},
	"features":                      {".", "document", "expression"},
	"models":                        {".", "features", "files"},
	"history":                       {"."},
	"history/embedded":              {"native"},
	"history/ingest":                {".", "parquet"},
	"ledger":                        {"."},
	"ledger/ledgertest":             {},
	"scoring":                       {".", "features", "models", "history", "ledger", "scoring/guard", "scoring/lists", "scoring/policy", "scoring/states"},
	"scoring/guard":                 {".", "ledger", "scoring/policy"},
	"scoring/lists":                 {".", "ledger"},
	"scoring/policy":                {".", "document", "expression", "features", "models"},
	"scoring/states":                {".", "features"},
	"training": {".", "document", "features", "files", "models", "history", "ledger", "parquet", "scoring", "scoring/policy",
		"training/lightgbm", "training/report"},
	"training/lightgbm": {"files", "native"},
	"training/report":   {"."},
	"simulate":          {"."},
	"api":               {".", "ledger", "models", "scoring", "scoring/policy"},
	"client":            {"."},
}

// importers are the only packages that may import a heavy dependency.
var importers = map[string][]string{
	"github.com/labstack/echo/v4":            {"api"},
	"github.com/dmitryikh/leaves":            {"models"},
	"github.com/ClickHouse/clickhouse-go/v2": {"history"},
	"github.com/ebitengine/purego":           {"native"},
	"modernc.org/sqlite":                     {"ledger"},
	"github.com/jackc/pgx/v5":                {"ledger", "ledger/ledgertest"},
	"github.com/parquet-go/parquet-go":       {"parquet"},
	"github.com/expr-lang/expr":              {"expression", "history/ingest", "scoring/policy"},
	"github.com/spf13/cobra":                 {"cmd/vaglio"},
	"github.com/prometheus/client_golang":    {"api", "cmd/vaglio"},
	"github.com/schollz/progressbar/v3":      {"cmd/vaglio"},
	"gonum.org/v1/plot":                      {"training/report"},
}

func TestImportsFollowTheArrows(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && name != "." && (strings.HasPrefix(name, ".") || name == "testdata") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		pkg := path.Dir(filepath.ToSlash(file))
		seen[pkg] = true
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			checkImport(t, file, pkg, imported)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range arrows {
		if !seen[pkg] {
			t.Errorf("the arrows name %s, which does not exist", pkg)
		}
	}
}

func checkImport(t *testing.T, file, pkg, imported string) {
	t.Helper()
	if imported == "vaglio" || strings.HasPrefix(imported, "vaglio/") {
		ours := strings.TrimPrefix(strings.Replace(imported, "vaglio", ".", 1), "./")
		allowed, known := arrows[pkg]
		if pkg != "cmd/vaglio" && (!known || !slices.Contains(allowed, ours)) {
			t.Errorf("%s: %s must not import %s", file, pkg, imported)
		}
	}
	for heavy, allowed := range importers {
		if (imported == heavy || strings.HasPrefix(imported, heavy+"/")) && !slices.Contains(allowed, pkg) {
			t.Errorf("%s: only %s may import %s", file, strings.Join(allowed, ", "), heavy)
		}
	}
}

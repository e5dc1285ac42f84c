package lightgbm

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"
)

// Parameters are the names that LightGBM knows, as its library says: by each name, alias or not, the main one.
func Parameters(ctx context.Context) (map[string]string, error) {
	out, err := task{Aliases: true}.run(ctx, nil, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("list LightGBM's parameters: %w", err)
	}
	var aliases map[string][]string
	if err := json.Unmarshal(out.aliases, &aliases); err != nil {
		return nil, fmt.Errorf("list LightGBM's parameters: %w", err)
	}
	main := map[string]string{}
	for name, others := range aliases {
		main[name] = name
		for _, other := range others {
			main[other] = name
		}
	}
	return main, nil
}

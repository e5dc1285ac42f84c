package lightgbm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"vaglio/native"
)

// Values of LightGBM's c_api.h.
const (
	dtypeFloat32        = 0
	dtypeFloat64        = 1
	predictRaw          = 1
	predictContribution = 3
)

// releases names the library files that we know, by their SHA-256: the C API tells no version.
var releases = map[string]string{
	"573d57e8a2c6290c2271b99b87afa7a802e796eafc9e8d66aefa0913cbc1616a": "4.7.0", // x86-64 Linux, from the wheel
}

// library is LightGBM's C API, as far as it is used. Errors are kept by thread: the caller locks its goroutine to one.
type library struct {
	path                string
	lastError           func() string
	datasetFromMat      func(data unsafe.Pointer, dtype, rows, cols, rowMajor int32, params string, reference uintptr, out *uintptr) int32
	datasetSetField     func(dataset uintptr, field string, values unsafe.Pointer, n, dtype int32) int32
	datasetSetNames     func(dataset uintptr, names unsafe.Pointer, n int32) int32
	datasetFree         func(dataset uintptr) int32
	boosterCreate       func(train uintptr, params string, out *uintptr) int32
	boosterAddValid     func(booster, valid uintptr) int32
	boosterUpdate       func(booster uintptr, finished *int32) int32
	boosterIteration    func(booster uintptr, out *int32) int32
	boosterEvalNames    func(booster uintptr, n int32, out *int32, size uintptr, outSize *uintptr, names unsafe.Pointer) int32
	boosterEval         func(booster uintptr, dataset int32, out *int32, values unsafe.Pointer) int32
	boosterSave         func(booster uintptr, start, count, importance int32, size int64, outSize *int64, text unsafe.Pointer) int32
	boosterLoad         func(text unsafe.Pointer, iterations *int32, out *uintptr) int32
	boosterFeatures     func(booster uintptr, out *int32) int32
	boosterFree         func(booster uintptr) int32
	dumpParamAliases    func(size int64, outSize *int64, text unsafe.Pointer) int32
	networkInit         func(machines string, port, timeoutMinutes, count int32) int32
	networkFree         func() int32
	boosterPredictByMat func(booster uintptr, data unsafe.Pointer, dtype, rows, cols, rowMajor, kind, start, count int32,
		params string, n *int64, out unsafe.Pointer) int32
}

func openLibrary() (*library, error) {
	l, err := native.Open("lib_lightgbm.so")
	if err != nil {
		return nil, err
	}
	api := &library{path: l.Path()}
	for symbol, fptr := range map[string]any{
		"LGBM_GetLastError":               &api.lastError,
		"LGBM_DatasetCreateFromMat":       &api.datasetFromMat,
		"LGBM_DatasetSetField":            &api.datasetSetField,
		"LGBM_DatasetSetFeatureNames":     &api.datasetSetNames,
		"LGBM_DatasetFree":                &api.datasetFree,
		"LGBM_BoosterCreate":              &api.boosterCreate,
		"LGBM_BoosterAddValidData":        &api.boosterAddValid,
		"LGBM_BoosterUpdateOneIter":       &api.boosterUpdate,
		"LGBM_BoosterGetCurrentIteration": &api.boosterIteration,
		"LGBM_BoosterGetEvalNames":        &api.boosterEvalNames,
		"LGBM_BoosterGetEval":             &api.boosterEval,
		"LGBM_BoosterSaveModelToString":   &api.boosterSave,
		"LGBM_BoosterLoadModelFromString": &api.boosterLoad,
		"LGBM_BoosterGetNumFeature":       &api.boosterFeatures,
		"LGBM_BoosterFree":                &api.boosterFree,
		"LGBM_BoosterPredictForMat":       &api.boosterPredictByMat,
		"LGBM_DumpParamAliases":           &api.dumpParamAliases,
		"LGBM_NetworkInit":                &api.networkInit,
		"LGBM_NetworkFree":                &api.networkFree,
	} {
		if err := l.Func(fptr, symbol); err != nil {
			return nil, err
		}
	}
	return api, nil
}

// check turns a C result into an error with LightGBM's own words.
func (l *library) check(doing string, code int32) error {
	if code == 0 {
		return nil
	}
	return fmt.Errorf("%s: LightGBM: %s", doing, strings.TrimSpace(l.lastError()))
}

// dataset bins a matrix, which may be released afterwards; reference, when not 0, gives it the bins of another one.
func (l *library) dataset(x []byte, rows int, names []string, label, weight []float64, params string, reference uintptr) (uintptr, error) {
	var handle uintptr
	if err := l.check("read the matrix", l.datasetFromMat(unsafe.Pointer(unsafe.SliceData(x)), dtypeFloat64, int32(rows), int32(len(names)),
		1, params, reference, &handle)); err != nil {
		return 0, err
	}
	pointers := make([]*byte, len(names))
	for i, name := range names {
		pointers[i] = unsafe.SliceData(append([]byte(name), 0))
	}
	err := l.check("name the columns", l.datasetSetNames(handle, unsafe.Pointer(unsafe.SliceData(pointers)), int32(len(names))))
	runtime.KeepAlive(pointers)
	if err != nil {
		return 0, err
	}
	if err := l.setField(handle, "label", label); err != nil {
		return 0, err
	}
	if weight == nil {
		return handle, nil
	}
	return handle, l.setField(handle, "weight", weight)
}

func (l *library) setField(dataset uintptr, field string, values []float64) error {
	narrow := make([]float32, len(values))
	for i, v := range values {
		narrow[i] = float32(v)
	}
	return l.check("set the "+field+"s", l.datasetSetField(dataset, field, unsafe.Pointer(unsafe.SliceData(narrow)), int32(len(narrow)), dtypeFloat32))
}

// evalNames lists the metrics in the order in which eval fills their values.
func (l *library) evalNames(booster uintptr) ([]string, error) {
	const most, size = 64, 256
	buffers := make([][size]byte, most)
	pointers := make([]*byte, most)
	for i := range buffers {
		pointers[i] = &buffers[i][0]
	}
	var n int32
	var longest uintptr
	err := l.check("list the metrics", l.boosterEvalNames(booster, most, &n, size, &longest, unsafe.Pointer(unsafe.SliceData(pointers))))
	runtime.KeepAlive(buffers)
	if err != nil {
		return nil, err
	}
	if n > most || longest > size {
		return nil, fmt.Errorf("%d metrics with names of up to %d bytes are too many", n, longest)
	}
	names := make([]string, n)
	for i := range names {
		text, _, _ := strings.Cut(string(buffers[i][:]), "\x00")
		names[i] = text
	}
	return names, nil
}

// eval computes the metrics on the first validation set.
func (l *library) eval(booster uintptr, values []float64) error {
	var n int32
	if err := l.check("evaluate", l.boosterEval(booster, 1, &n, unsafe.Pointer(unsafe.SliceData(values)))); err != nil {
		return err
	}
	if int(n) != len(values) {
		return fmt.Errorf("evaluate: %d values for %d metrics", n, len(values))
	}
	return nil
}

// save is the text of the first iterations.
func (l *library) save(booster uintptr, iterations int) ([]byte, error) {
	return l.text("write the model", 1<<20, func(room int64, size *int64, text unsafe.Pointer) int32 {
		return l.boosterSave(booster, 0, int32(iterations), 0, room, size, text)
	})
}

// aliases is a JSON object: by parameter its other names.
func (l *library) aliases() ([]byte, error) {
	return l.text("list the parameters", 1<<14, l.dumpParamAliases)
}

// text asks for a text, again if it needs more room.
func (l *library) text(doing string, room int, write func(room int64, size *int64, text unsafe.Pointer) int32) ([]byte, error) {
	text := make([]byte, room)
	for {
		var size int64 // with the final NUL
		if err := l.check(doing, write(int64(len(text)), &size, unsafe.Pointer(unsafe.SliceData(text)))); err != nil {
			return nil, err
		}
		if size <= int64(len(text)) {
			return text[:max(size-1, 0)], nil
		}
		text = make([]byte, size)
	}
}

// load reads a model's text and returns its number of features.
func (l *library) load(text []byte) (booster uintptr, features int, err error) {
	terminated := append(text[:len(text):len(text)], 0)
	var iterations, n int32
	if err := l.check("read the model", l.boosterLoad(unsafe.Pointer(unsafe.SliceData(terminated)), &iterations, &booster)); err != nil {
		return 0, 0, err
	}
	if err := l.check("read the model", l.boosterFeatures(booster, &n)); err != nil {
		return 0, 0, err
	}
	return booster, int(n), nil
}

// predict fills out, width values a row.
func (l *library) predict(booster uintptr, x []byte, rows, cols int, kind int32, out []float64) error {
	var n int64
	if err := l.check("predict", l.boosterPredictByMat(booster, unsafe.Pointer(unsafe.SliceData(x)), dtypeFloat64, int32(rows), int32(cols), 1,
		kind, 0, -1, "", &n, unsafe.Pointer(unsafe.SliceData(out)))); err != nil {
		return err
	}
	if n != int64(len(out)) {
		return fmt.Errorf("predict: %d values instead of %d", n, len(out))
	}
	return nil
}

// version is the release of the library's file, or its hash.
func (l *library) version() (_ string, err error) {
	f, err := os.Open(l.path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	if release, ok := releases[sum]; ok {
		return release, nil
	}
	return "sha256:" + sum, nil
}

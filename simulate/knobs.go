package simulate

// Pattern is what a request truly is.
type Pattern uint8

// The patterns, in the order of the table below.
const (
	Honest Pattern = iota
	SerialRefunder
	AccountTakeover
	MuleDeposit
	DeviceRing
	NotReceivedAbuse
	SpentDisowned
	DoubleDip
	Insider
	patternCount
)

// String is the pattern's name in the ground truth; it never enters an event.
func (p Pattern) String() string { return patterns[p].name }

// LookAlike is the reason why an honest request may look like fraud.
type LookAlike uint8

// The honest look-alikes.
const (
	NoLookAlike LookAlike = iota
	HeavyReturner
	NewPhone
	Household
	Outage
	OwnAccount
)

// String is the look-alike's name in the ground truth, "" for none.
func (l LookAlike) String() string {
	return [...]string{"", "heavy_returner", "new_phone", "household", "outage", "own_account"}[l]
}

// pattern holds what happens after a request of it: how the past policy answered, and when the truth came out.
type pattern struct {
	name      string
	fraudType string
	share     float64 // of all requests, by default
	delay     spread  // days from the request to its label
	never     float64 // share without a label for ever
	denied    float64 // share that the past policy refused
	sources   []choice
}

var patterns = [patternCount]pattern{
	Honest: {name: "honest", delay: spread{20, 5, 60}, denied: 0.03, // delay of a wrong label
		sources: []choice{{"reviewer", 0.7}, {"chargeback", 0.3}}},
	SerialRefunder: {name: "serial_refunder", fraudType: "first_party", share: 0.010, delay: spread{30, 7, 90}, never: 0.4, denied: 0.10,
		sources: []choice{{"investigation", 0.6}, {"reviewer", 0.25}, {"chargeback", 0.15}}},
	AccountTakeover: {name: "account_takeover", fraudType: "third_party", share: 0.006, delay: spread{2, 0.2, 10}, denied: 0.20,
		sources: []choice{{"victim_report", 1}}},
	MuleDeposit: {name: "mule_deposit", fraudType: "mule", share: 0.005, delay: spread{20, 5, 60}, denied: 0.15,
		sources: []choice{{"recall", 0.6}, {"investigation", 0.4}}},
	DeviceRing: {name: "device_ring", fraudType: "ring", share: 0.006, delay: spread{14, 7, 30}, denied: 0.08,
		sources: []choice{{"investigation", 1}}},
	NotReceivedAbuse: {name: "not_received_abuse", fraudType: "first_party", share: 0.006, delay: spread{20, 10, 45}, never: 0.5, denied: 0.08,
		sources: []choice{{"investigation", 0.7}, {"reviewer", 0.3}}},
	SpentDisowned: {name: "spent_disowned", fraudType: "first_party", share: 0.004, delay: spread{45, 20, 120}, denied: 1, // then disputed, and won
		sources: []choice{{"dispute", 1}}},
	DoubleDip: {name: "double_dip", fraudType: "first_party", share: 0.002, delay: spread{45, 20, 75}, denied: 0, // must be paid first
		sources: []choice{{"chargeback", 1}}},
	Insider: {name: "insider", fraudType: "insider", share: 0.001, delay: spread{60, 30, 180}, denied: 0,
		sources: []choice{{"investigation", 1}}},
}

func defaultPatternShares() (s PatternShares) {
	for p := range patterns {
		s[p] = patterns[p].share
	}
	return s
}

// knobs are the numbers of behaviour: to make fraud easier or harder to find, change them here. Shares are 0 to 1,
// spans are in hours unless named otherwise, money is in minor units.
var knobs = struct {
	base     baseKnobs
	serial   serialKnobs
	takeover takeoverKnobs
	mule     muleKnobs
	ring     ringKnobs
	received receivedKnobs
	spent    spentKnobs
	dip      dipKnobs
	insider  insiderKnobs
	heavy    heavyKnobs
	phone    phoneKnobs
	own      ownKnobs
}{
	base: baseKnobs{
		oldCustomers: 0.8, oldestDays: 900, dormant: 0.12,
		paymentsSigma: 0.7, amountMedian: 3_200, amountSigmaCustomer: 0.6, amountSigma: 0.75,
		deposits: 0.45, failed: 0.02, newSources: 0.08,
		newPhonesPerYear: 0.35, credentialsPerYear: 0.35, payoutsPerYear: 0.12, contactsPerYear: 0.3,
		logins: 0.30, failedLogins: 0.05, stepUps: 0.03, mobileIP: 0.35, secondDevice: 0.4,
		spends: 0.45, fastSpender: 0.4, withdrawals: 0.04, trackedGoods: 0.65, bookedDeposits: 0.15,
		newcomerRequests: 6, slips: 0.03, corrected: 0.6, partial: 0.15, deliveredYetClaimed: 0.2, spentYetDisowned: 0.8,
		byEmployee: 0.06, contacted: 0.3, recalls: 0.05,
		chargebacks: 0.0015, warnings: 0.001, returned: 0.01,
		reviewedClean: 0.05, deniedDisputed: 0.12, disputeLost: 0.5,
	},
	serial: serialKnobs{months: [2]float64{4, 8}, requests: [2]int{13, 28}, firstShare: 0.1, lastShare: 0.6, climb: 0.6, dearer: 1.9,
		partial: 0.25, driftFrom: 0.75, drift: 0.5},
	takeover: takeoverKnobs{
		span: spread{9, 1.5, 40}, failedLogins: 0.5, newDevice: 0.55, reusedDevice: 0.1, credentials: 0.52, payoutAdded: 0.62, payoutElsewhere: 0.62,
		passed: 0.25, second: 0.25,
		payee: []choice{{"match", 0.45}, {"close_match", 0.2}, {"no_match", 0.08}, {"unavailable", 0.27}},
	},
	mule: muleKnobs{
		ageDays: spread{9, 1, 27}, amountMedian: 70_000, amountSigma: 0.6, second: 0.3, smallPayments: 1.2, spentShare: [2]float64{0, 0.1},
		toRequest: spread{9, 1.5, 40}, groups: [2]int{3, 8}, ownPayout: 0.6, groupDevice: 0.2,
		payee: []choice{{"match", 0.5}, {"close_match", 0.2}, {"no_match", 0.05}, {"unavailable", 0.25}},
	},
	ring: ringKnobs{
		accountsMedian: 9, accountsSigma: 0.6, accountsPerDevice: 4, accountsPerIP: 8, accountsPerAddress: 6, calmDays: spread{42, 20, 90}, paymentsPerMonth: 2.5,
		ringDevice: 0.36, burst: spread{7, 1.5, 20}, takesPart: 0.8, secondBurst: 0.3, sharedPayout: 0.12, amountMedian: 2_400,
	},
	received: receivedKnobs{perActor: [2]int{1, 3}, priceFactor: 2.8, priceSigma: 0.45, claimDays: [2]float64{1, 5}},
	spent: spentKnobs{perActor: [2]int{1, 2}, amountFactor: 1.6, amountSigma: 0.4, spendHours: [2]float64{0.3, 6}, share: [2]float64{0.9, 1},
		toRequest: spread{14, 3, 60}},
	dip: dipKnobs{perActor: [2]int{1, 3}, before: 0.9},
	insider: insiderKnobs{limit: 50_000, share: [2]float64{0.5, 0.99}, dormantDays: [2]float64{60, 200}, batchDays: 45, found: spread{36, 12, 150},
		payouts: 3, lateShift: 0.75, payee: []choice{{"match", 0.5}, {"close_match", 0.2}, {"unavailable", 0.3}}},
	heavy: heavyKnobs{share: 0.25, spread: 0.35, dearer: 1.5, goods: 0.85},
	phone: phoneKnobs{before: spread{10, 0.5, 60}, failedLogins: 0.5, credentials: 0.8, stepUp: 0.85},
	own: ownKnobs{before: spread{10, 0.3, 200}, added: 0.8, oldDays: 180, newPhone: 0.55, newcomers: 0.9, newcomersHurry: 0.85, newcomerFactor: 20,
		byEmployee: 0.25, payee: []choice{{"match", 0.62}, {"close_match", 0.22}, {"unavailable", 0.16}}},
}

// baseKnobs describe honest customers.
type baseKnobs struct {
	oldCustomers        float64 // share who were customers before the history starts
	oldestDays          float64
	dormant             float64 // share who stop paying during the history
	paymentsSigma       float64 // of the logarithm of the payments per year, across customers
	amountMedian        float64
	amountSigmaCustomer float64 // across customers
	amountSigma         float64 // across a customer's payments
	deposits            float64 // share of payments that buy credit; the others buy goods
	failed              float64 // share of payments preceded by a failed one
	newSources          float64 // share of payments from an instrument never used before
	newPhonesPerYear    float64
	credentialsPerYear  float64
	payoutsPerYear      float64
	contactsPerYear     float64
	logins              float64 // logins shortly before a payment, each
	failedLogins        float64 // of logins
	stepUps             float64 // of logins
	mobileIP            float64 // payments from a carrier's shared address
	secondDevice        float64 // share of customers with one
	spends              float64 // share of deposits whose use is recorded
	fastSpender         float64 // share of those used within hours
	withdrawals         float64 // per deposit
	trackedGoods        float64 // share of goods merchants who report deliveries
	bookedDeposits      float64 // share of credit merchants who report bookings
	newcomerRequests    float64 // how much likelier a request is in the first 30 days of an account
	slips               float64 // of claims about deposits on slow rails; makes one cancellation in five a slip
	corrected           float64 // share of slips followed by the corrected deposit
	partial             float64
	deliveredYetClaimed float64 // share of honest not_received claims about a recorded delivery
	spentYetDisowned    float64 // share of honest unauthorised claims about used credit
	byEmployee          float64 // requests raised by an employee for the customer
	contacted           float64 // requests preceded by a contact
	recalls             float64 // share of refunds of settled instant payments that are recalls
	chargebacks         float64 // per card payment without a request
	warnings            float64 // per card payment
	returned            float64 // per direct debit without a request
	reviewedClean       float64 // requests that a reviewer declared clean
	deniedDisputed      float64 // denied requests followed by a chargeback
	disputeLost         float64 // share of those that the customer wins
}

// serialKnobs: the share of payments asked back climbs from firstShare to lastShare over a part of the time, and stays.
type serialKnobs struct {
	months                [2]float64
	requests              [2]int
	firstShare, lastShare float64
	climb                 float64
	dearer                float64 // factor on the amounts asked back
	partial               float64
	driftFrom             float64 // part of the history after which amounts change
	drift                 float64 // factor
}

// takeoverKnobs: each sign of a takeover is there only with its share.
type takeoverKnobs struct {
	span                                                                                     spread // first sign to request
	failedLogins, newDevice, reusedDevice, credentials, payoutAdded, payoutElsewhere, passed float64
	second                                                                                   float64 // a second payment is asked back too
	payee                                                                                    []choice
}

type muleKnobs struct {
	ageDays       spread // of the account at the request
	amountMedian  float64
	amountSigma   float64
	second        float64 // a second deposit
	smallPayments float64 // mean number of ordinary payments before
	spentShare    [2]float64
	toRequest     spread
	groups        [2]int // mules per payout instrument
	ownPayout     float64
	groupDevice   float64
	payee         []choice
}

type ringKnobs struct {
	accountsMedian, accountsSigma                        float64 // clipped to 5 to 40
	accountsPerDevice, accountsPerIP, accountsPerAddress int
	calmDays                                             spread
	paymentsPerMonth                                     float64
	ringDevice                                           float64 // share of payments and requests from the ring's devices
	burst                                                spread
	takesPart                                            float64
	secondBurst                                          float64
	sharedPayout                                         float64
	amountMedian                                         float64
}

type receivedKnobs struct {
	perActor    [2]int
	priceFactor float64
	priceSigma  float64
	claimDays   [2]float64
}

type spentKnobs struct {
	perActor     [2]int
	amountFactor float64
	amountSigma  float64
	spendHours   [2]float64
	share        [2]float64
	toRequest    spread
}

type dipKnobs struct {
	perActor [2]int
	before   float64 // share of actors with a chargeback or return of another payment before
}

type insiderKnobs struct {
	limit       float64 // above it a second employee must approve
	share       [2]float64
	dormantDays [2]float64
	batchDays   float64 // requests of so many days are found out together
	found       spread  // days from the end of a batch to its labels
	payouts     int
	lateShift   float64
	payee       []choice
}

// heavyKnobs: each asks back a steady share of payments of his own, dearer ones first.
type heavyKnobs struct{ share, spread, dearer, goods float64 }

type phoneKnobs struct {
	before                            spread
	failedLogins, credentials, stepUp float64
}

type ownKnobs struct {
	before         spread // payout instrument added to request
	added          float64
	oldDays        float64
	newPhone       float64 // share who have changed their phone, too
	newcomers      float64 // share of newcomers' claims about deposits that go to another account of theirs
	newcomersHurry float64 // share of those within hours of the payment
	newcomerFactor float64 // on the amounts of those
	byEmployee     float64
	payee          []choice
}
